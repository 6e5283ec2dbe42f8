"""Service tokens: their bearers are trusted to name any user (the API front). Kept as hashes only."""

from __future__ import annotations

import asyncio
import secrets
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import structlog

from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.gateway.security.credentials import API_KEY_PREFIX
from dreamseed_cli.gateway.security.pem import read_secret
from dreamseed_cli.gateway.security.watch import signature

SHORTEST = 32
"""The fewest characters of a token."""

_log = structlog.get_logger(__name__)
_PREFIX = "dss_"
_REMEDY = "Make one with: dreamseed certs token."


def new_token() -> str:
    """A token with 256 random bits; its prefix lets secret scanners find it."""
    return _PREFIX + secrets.token_urlsafe(32)


class ServiceTokens:
    """The tokens in a file, one a line, `#` begins a comment.

    Made from a file that must be right: UsageError if it is open to others, empty, or has a line that is no
    token; MissingError if it cannot be read. watch() takes later changes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._refused: str | None = None
        self._signature = signature([file])
        self._digests = load_digests(file)
        if not self._digests:
            raise UsageError("holds no token", place=str(file), remedy=_REMEDY)

    def knows(self, token: str) -> bool:
        """Whether `token` is one of them.

        What is compared are SHA-256 digests: how long it takes tells nothing about a token.
        """
        return sha256(token.encode(errors="surrogatepass")).digest() in self._digests

    async def watch(self, interval_s: float = 1.0) -> NoReturn:
        """Look every `interval_s` seconds whether the file changed, until cancelled.

        A file emptied of tokens revokes them all; one that is gone or wrong is logged, and the tokens known
        before stay.
        """
        while True:
            await asyncio.sleep(interval_s)
            # In a thread: the file may lie on a disk that hangs.
            await asyncio.to_thread(self._reload)

    def _reload(self) -> None:
        found = signature([self._file])
        if found == self._signature:
            return
        try:
            self._digests = load_digests(self._file)
        except DreamseedError as error:
            if self._refused != str(error):
                self._refused = str(error)
                _log.error("service tokens refused, the old ones stay", **error.to_data())
            return
        self._signature, self._refused = found, None
        _log.info("service tokens reloaded", tokens=len(self._digests))


def load_digests(file: Path) -> frozenset[bytes]:
    """The tokens' SHA-256 digests; errors as ServiceTokens."""
    try:
        text = read_secret(file).decode("ascii")
    except UnicodeDecodeError as error:
        raise UsageError("is not plain ASCII", place=str(file), remedy=_REMEDY) from error
    lines = enumerate(text.splitlines(), start=1)
    found = ((number, line.partition("#")[0].strip()) for number, line in lines)
    return frozenset(_digest(token, f"{file}:{number}") for number, token in found if token)


def _digest(token: str, place: str) -> bytes:
    """The line's token is not in the error: errors are logged."""
    if len(token) < SHORTEST or any(character.isspace() for character in token):
        raise UsageError(f"is no token of {SHORTEST} characters or more", place=place, remedy=_REMEDY)
    if token.startswith(API_KEY_PREFIX):
        raise UsageError("is a user's API key, which is no service token", place=place, remedy=_REMEDY)
    return sha256(token.encode()).digest()
