"""Who calls, as far as the call itself proves it. Whose API key it is, PostgreSQL tells later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from dreamseed_cli.gateway.refusals import Unauthenticated
from dreamseed_cli.gateway.security.channel import AUTHORIZATION_KEY, USER_KEY_KEY
from dreamseed_cli.gateway.security.credentials import API_KEY_PREFIX, Credentials
from dreamseed_cli.gateway.security.tokens import ServiceTokens
from dreamseed_cli.profile.schema import Security

_SCHEME = "bearer "
# gRPC puts it into a connection's properties only after it verified the peer's certificate.
_VERIFIED_PEER = "x509_pem_cert"
_TRUSTED = Credentials(trusted=True)


class Connection(Protocol):
    """What is asked of a ServicerContext."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """The connection's security properties."""
        ...


class CallerCheck:
    """Takes a call's evidence. loopback: whether the gateway listens on loopback only.

    Reads the service tokens' file: UsageError or MissingError as ServiceTokens. `tokens` is there to be
    watched while the server runs.
    """

    def __init__(self, security: Security, *, loopback: bool) -> None:
        named = security.service_tokens_file
        self.tokens = ServiceTokens(Path(named).expanduser()) if named is not None else None
        self._takes_certificates = security.tls is not None and security.tls.client_ca is not None
        asked = security.require_authentication
        self._required = not loopback if asked is None else asked

    def credentials(
        self, connection: Connection, metadata: Iterable[tuple[str, str | bytes]] | None
    ) -> Credentials:
        """What the caller showed. Raises Unauthenticated if it is wrong, or nothing where something is due.

        metadata: the call's own. Where no authentication is required, a bearer token that is neither a
        service token nor an API key is passed over: OpenAI clients insist on sending some.
        """
        bearer, user_key = _shown(metadata or ())
        trusted = self._takes_certificates and _VERIFIED_PEER in connection.auth_context()
        if bearer is not None:
            if bearer.startswith(API_KEY_PREFIX):
                return Credentials(trusted=trusted or not self._required, api_key=bearer)
            if self.tokens is not None and self.tokens.knows(bearer):
                trusted = True
            elif self._required:
                raise Unauthenticated("the bearer token is not known", remedy=_REMEDY)
        if not trusted and self._required:
            raise Unauthenticated("neither a token nor a client certificate was shown", remedy=_REMEDY)
        if user_key is None:
            return _TRUSTED
        if not user_key.startswith(API_KEY_PREFIX):
            # In the front's clients' words, who see this: it is whatever they sent as their bearer token.
            raise Unauthenticated("the user's API key is not valid", remedy="Check it, or ask for a new one")
        return Credentials(trusted=True, api_key=user_key)


_REMEDY = "Send 'authorization: Bearer' with a service token or an API key"


def _shown(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[str | None, str | None]:
    """The bearer token and the user's key of a call, each at most once."""
    bearer = user_key = None
    for key, value in metadata:
        if key == AUTHORIZATION_KEY:
            bearer = _once(bearer, _bearer(str(value)))
        elif key == USER_KEY_KEY:
            user_key = _once(user_key, str(value))
    return bearer, user_key


def _once(known: str | None, value: str | None) -> str | None:
    if known is not None:
        raise Unauthenticated("two keys of one kind were shown", remedy="Send one")
    return value


def _bearer(value: str) -> str | None:
    """The token of an `authorization` value (RFC 6750); None if it holds none."""
    return value[len(_SCHEME) :].strip() if value[: len(_SCHEME)].lower() == _SCHEME else None
