"""A failed call to the gateway as an error with place, cause and remedy: what gRPC says, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError, UsageError

if TYPE_CHECKING:
    from google.rpc.error_details_pb2 import RetryInfo

_TOKEN = "Put a service token or an API key into DREAMSEED_TOKEN."  # noqa: S105 - a sentence
_CA = "Name the gateway's authority: --ca ca.crt."
_RENEW = "On the gateway's host: dreamseed certs create --renew."

# In the order they are looked for; what gRPC and BoringSSL say of a connection that failed.
_CONNECTION: tuple[tuple[str, type[DreamseedError], str, str], ...] = (
    ("errors resolving", UsageError, "this leads to no gateway", "Give HOST:PORT, such as 127.0.0.1:50051."),
    ("certificate has expired", FailedError, "the gateway's certificate has expired", _RENEW),
    (
        "certificate is not yet valid",
        FailedError,
        "the gateway's certificate is not valid yet",
        "Compare the clocks of both hosts.",
    ),
    (
        "hostname verification check failed",
        UsageError,
        "the gateway's certificate is not for this name",
        "Use a name that it has (dreamseed certs show), or add this one: "
        "dreamseed certs create --renew --name NAME.",
    ),
    (
        "certificate_verify_failed",
        MissingError,
        "the gateway's certificate is of no authority that this client trusts",
        _CA,
    ),
    (
        "wrong_version_number",
        UsageError,
        "what listens there speaks no TLS",
        "Leave out --ca and --cert for a gateway on loopback; beyond it one always speaks TLS.",
    ),
    (
        "connection refused",
        MissingError,
        "no gateway listens there",
        "Start it: dreamseed serve.",
    ),
)
# A gateway that refuses a client certificate closes the connection, mostly without a reason.
_HANGING_UP = ("socket closed", "reset by peer", "broken pipe", "_alert_")
_CALL = {
    grpc.StatusCode.UNAVAILABLE: (None, "Look at the replicas: dreamseed status."),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("no complete answer in time", "Allow more time, or ask for less."),
}


def explain(error: grpc.aio.AioRpcError, address: str, *, encrypted: bool = False) -> DreamseedError:
    """The failure for people. encrypted: whether the channel spoke TLS.

    MissingError for nothing that listens and for evidence that lacks, UsageError for a request or an address
    that is wrong, else FailedError.
    """
    code = error.code()
    said = (error.details() or code.name).rstrip(".")  # the remedy comes after it
    if code is grpc.StatusCode.UNAVAILABLE and _never_connected(said):
        return _unconnected(said, address, encrypted=encrypted)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return UsageError(said, place=address, remedy="Change the request.")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return MissingError(f"the gateway does not let this caller in: {said}", place=address, remedy=_TOKEN)
    if code is grpc.StatusCode.PERMISSION_DENIED:
        remedy = "Ask as yourself and within your tier, or show another key."
        return UsageError(f"this caller may not do that: {said}", place=address, remedy=remedy)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # The gateway says in words what is in RetryInfo too, for clients that look at the words alone.
        said = said.partition(". Try again in ")[0]
        return FailedError(f"{code.name}: {said}", place=address, remedy=_patience(error))
    cause, remedy = _CALL.get(code, (None, "Look at the gateway's log: dreamseed logs."))
    return FailedError(cause or f"{code.name}: {said}", place=address, remedy=remedy)


def retry_after_s(error: grpc.RpcError) -> float | None:
    """When to try again, in seconds from the answer (google.rpc.RetryInfo); None if nothing is said of it."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo
    from grpc_status.rpc_status import from_call

    try:
        status = from_call(error)
    except (ValueError, DecodeError):
        return None
    for detail in status.details if status is not None else ():
        info: RetryInfo = RetryInfo()
        if detail.Unpack(info):
            return float(info.retry_delay.ToMilliseconds()) / 1000
    return None


def _patience(error: grpc.aio.AioRpcError) -> str:
    wait_s = retry_after_s(error)
    return "Try again when there is less to do." if wait_s is None else f"Try again in {wait_s:.1f} s."


def _never_connected(said: str) -> bool:
    return "failed to connect" in said.lower() or "errors resolving" in said.lower()


def _unconnected(said: str, address: str, *, encrypted: bool) -> DreamseedError:
    lowered = said.lower()
    for sign, kind, cause, remedy in _CONNECTION:
        if sign in lowered:
            return kind(cause, place=address, remedy=remedy)
    if _hung_up(lowered):
        return _hanging_up(address, encrypted=encrypted)
    if "handshake failed" in lowered:
        return FailedError(f"no TLS connection: {said}", place=address, remedy="Look at the gateway's log.")
    remedy = "Start it there (dreamseed serve), or mend the address."
    return MissingError("no gateway answers there", place=address, remedy=remedy)


def _hanging_up(address: str, *, encrypted: bool) -> DreamseedError:
    if not encrypted:
        return MissingError("what listens there hung up: it may speak TLS", place=address, remedy=_CA)
    return MissingError(
        "the gateway hung up, as it does on callers without a client certificate of its authority",
        place=address,
        remedy="Show one that has not expired: --cert client-NAME.crt --key client-NAME.key.",
    )


def _hung_up(lowered: str) -> bool:
    return any(sign in lowered for sign in _HANGING_UP)
