"""Where the gateway may listen, and who must then be asked for what. Pure, but for the question why a port
could not be had.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dreamseed_cli.core.address import is_loopback
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, FailedError, UsageError

if TYPE_CHECKING:
    # The front, whose start is waited for, needs none of the profile.
    from dreamseed_cli.profile.schema import Profile, Security, Tls

_HOST, _TLS, _SECURITY = "gateway.host", "gateway.security.tls", "gateway.security"


def listen_address(host: str, port: int, security: Security, *, accounts: bool = False) -> str:
    """`HOST:PORT` in gRPC's notation. Raises listen_errors(), if there are any."""
    _raise(listen_errors(host, security, accounts=accounts))
    return _joined(host, port)


def dial_address(host: str, port: int) -> str:
    """Where clients on this machine reach a gateway that listens on `host`: a wildcard is no destination."""
    return _joined({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 - compared


def profile_listen_errors(profile: Profile) -> Sequence[UsageError]:
    """What stands against the profile's gateway listening where it says, each named with the profile."""
    gateway = profile.gateway
    accounts = profile.services.postgres.mode != "off"
    return [
        UsageError(error.cause, place=f"{profile.name}: {error.place}", remedy=error.remedy)
        for error in listen_errors(gateway.host, gateway.security, accounts=accounts)
    ]


def listen_errors(host: str, security: Security, *, accounts: bool) -> Sequence[UsageError]:
    """What stands against listening on `host`, each with its place in the profile.

    accounts: whether users' API keys can be looked up (PostgreSQL is not off). Beyond loopback TLS is needed
    and every caller must prove who it is: §D1 opens an insecure port to the internet.
    """
    errors = list(_tls_errors(security.tls)) if security.tls is not None else []
    if not is_loopback(host):
        errors += _exposed_errors(host, security)
    demanded = security.require_authentication or not is_loopback(host)
    if demanded and not _can_authenticate(security, accounts=accounts):
        errors.append(
            UsageError(
                "callers must prove who they are, and there is nothing to prove it by",
                place=_SECURITY,
                remedy="Set service_tokens_file (dreamseed certs token) or tls.client_ca, "
                "or keep accounts in PostgreSQL (services.postgres.mode).",
            )
        )
    return errors


def _exposed_errors(host: str, security: Security) -> list[UsageError]:
    errors = []
    if security.tls is None:
        errors.append(
            UsageError(
                f"without TLS the gateway listens on loopback only, and '{host}' is not: anybody on the way "
                "could read prompts and spend the cards",
                place=_HOST,
                remedy="Set it to 127.0.0.1, or add [gateway.security.tls] (dreamseed certs create).",
            )
        )
    if security.require_authentication is False:
        errors.append(
            UsageError(
                f"'{host}' is not loopback, where every caller must prove who it is",
                place=f"{_SECURITY}.require_authentication",
                remedy="Remove it, or set gateway.host to 127.0.0.1.",
            )
        )
    return errors


def _tls_errors(tls: Tls) -> list[UsageError]:
    """gRPC for Python asks for a client's certificate only where it demands one, so the two go together."""
    if tls.require_client_certificate == (tls.client_ca is not None):
        return []
    if tls.client_ca is None:
        return [
            UsageError(
                "client certificates are demanded, and no authority for them is named",
                place=f"{_TLS}.require_client_certificate",
                remedy="Set client_ca to the authority's certificate, such as ca.crt.",
            )
        ]
    return [
        UsageError(
            "gRPC asks callers for a certificate only where it demands one",
            place=f"{_TLS}.client_ca",
            remedy="Set require_client_certificate to true, or remove client_ca: bearer tokens then do.",
        )
    ]


def _can_authenticate(security: Security, *, accounts: bool) -> bool:
    certificates = security.tls is not None and security.tls.client_ca is not None
    return accounts or certificates or security.service_tokens_file is not None


def is_local_target(target: str) -> bool:
    """Whether a gRPC target (`HOST:PORT`, `unix:PATH`) ends on this machine; False in doubt."""
    if target.startswith("unix:"):
        return True
    host, colon, port = target.rpartition(":")
    if not colon or ":" in port or (":" in host and not host.startswith("[")):
        host = target
    return is_loopback(host.removeprefix("[").removesuffix("]"))


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _raise(errors: Sequence[UsageError]) -> None:
    if errors:
        raise errors[0] if len(errors) == 1 else ErrorGroup(errors)


def explain_bind_failure(host: str, port: int) -> DreamseedError:
    """Why nothing could listen there; gRPC's own error does not tell."""
    place = f"{host}:{port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return FailedError(
                    f"another process listens on port {port}",
                    place=place,
                    remedy="End it, or choose another gateway.port; 0 takes a free one.",
                )
            return FailedError(
                f"port {port} cannot be had: {error.strerror or error}",
                place=place,
                remedy="Choose another gateway.port, or gateway.host if it is not this machine's.",
            )
    return FailedError(f"port {port} could not be had for a moment", place=place, remedy="Try again.")
