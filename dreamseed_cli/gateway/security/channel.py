"""A client's side: what it trusts, what it shows of itself, and the channel that follows from both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.gateway.address import is_local_target
from dreamseed_cli.gateway.security.pem import (
    parse_certificates,
    parse_key,
    read_file,
    require_pair,
)

AUTHORIZATION_KEY = "authorization"
USER_KEY_KEY = "x-user-key"


@dataclass(frozen=True, slots=True)
class ClientSecurity:
    """How a client speaks to the gateway. TLS beyond loopback always, on loopback if a file is named.

    ca_file: the authorities it believes (PEM); None: the public ones that gRPC ships.
    certificate_file, key_file: its own certificate and key (PEM), both or neither.
    token: a service token or a user's API key. server_name: the name that the gateway's certificate must
    have, if not the address's. plaintext: no TLS, even beyond loopback, where no token may then be sent.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    server_name: str | None = None
    plaintext: bool = False

    def encrypts(self, address: str) -> bool:
        """Whether a channel to `address` (`HOST:PORT` or `unix:PATH`) speaks TLS."""
        named = self.ca_file or self.certificate_file or self.key_file or self.server_name
        return not self.plaintext and (bool(named) or not is_local_target(address))


def open_channel(
    address: str, security: ClientSecurity | None = None, options: Sequence[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """A channel to the gateway; it connects at the first call. Files are read now, and once.

    Raises UsageError if a token would travel in clear or the files do not fit together, MissingError if one
    cannot be read.
    """
    chosen = security or ClientSecurity()
    # No proxy from the environment: the gateway is on this host or at the end of a tunnel.
    options = [("grpc.enable_http_proxy", 0), *options]
    if chosen.encrypts(address):
        if chosen.server_name is not None:
            options.append(("grpc.ssl_target_name_override", chosen.server_name))
        return grpc.aio.secure_channel(address, _credentials(chosen), options=options)
    if chosen.token is not None and not is_local_target(address):
        raise UsageError(
            "a token is never sent without TLS",
            place=address,
            remedy="Name the gateway's authority with a CA file, and do not ask for plaintext.",
        )
    return grpc.aio.insecure_channel(address, options=options)


def call_metadata(
    security: ClientSecurity | None, *, user_key: str | None = None
) -> tuple[tuple[str, str], ...]:
    """A call's metadata: the bearer token and, from a trusted caller, its user's own API key.

    The same tuple serves every call. UsageError if one holds what cannot stand in a header.
    """
    token = security.token if security is not None else None
    shown = []
    if token is not None:
        shown.append((AUTHORIZATION_KEY, f"Bearer {_printable(token)}"))
    if user_key is not None:
        shown.append((USER_KEY_KEY, _printable(user_key)))
    return tuple(shown)


def _printable(secret: str) -> str:
    """The secret itself, which must never stand in the error that gRPC would raise of it."""
    if not secret or not all("!" <= character <= "~" for character in secret):
        raise UsageError(
            "the token is empty, or holds a space or a character beyond ASCII",
            place="token",
            remedy="Copy it again, in one line without quotes.",
        )
    return secret


def _credentials(security: ClientSecurity) -> grpc.ChannelCredentials:
    roots = None
    if security.ca_file is not None:
        roots = read_file(security.ca_file)
        parse_certificates(roots, security.ca_file)
    if security.certificate_file is None and security.key_file is None:
        return grpc.ssl_channel_credentials(roots)
    if security.certificate_file is None or security.key_file is None:
        raise UsageError(
            "a client certificate and its key go together, and one of them is missing",
            place=str(security.certificate_file or security.key_file),
            remedy="Name both files.",
        )
    # Its mode is not asked: Cloud Run and Kubernetes mount secrets readable by all in a container of one.
    chain, key = read_file(security.certificate_file), read_file(security.key_file)
    own = parse_certificates(chain, security.certificate_file)[0]
    require_pair(own, parse_key(key, security.key_file), security.key_file)
    return grpc.ssl_channel_credentials(roots, key, chain)
