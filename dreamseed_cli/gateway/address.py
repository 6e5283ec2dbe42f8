"""Where the gateway may listen. Pure, but for the question why a port could not be had."""

from __future__ import annotations

import errno
import ipaddress
import socket

from dreamseed_cli.core.errors import DreamseedError, FailedError, UsageError


def listen_address(host: str, port: int) -> str:
    """`HOST:PORT` in gRPC's notation. UsageError unless the host is this machine's loopback.

    Without TLS anybody on the network could read prompts and spend the cards: §D1 opens an insecure port to
    the internet.
    """
    if not _is_loopback(host):
        raise UsageError(
            f"without TLS the gateway listens on loopback only, and '{host}' is not",
            place="gateway.host",
            remedy="Set it to 127.0.0.1, and reach it from elsewhere through a tunnel.",
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
                f"port {port} cannot be had: {error.strerror}",
                place=place,
                remedy="Choose another gateway.port.",
            )
    return FailedError(f"port {port} could not be had for a moment", place=place, remedy="Try again.")
