"""The fallback's HTTP: any OpenAI-compatible service. Its texts are passed on and never kept or logged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import aiohttp

_LARGEST_ANSWER = 8 * 1024 * 1024


class ProviderFailed(Exception):
    """No answer. billed: whether tokens may have been generated that nobody counted."""

    def __init__(self, said: str, *, billed: bool) -> None:
        super().__init__(said)
        self.billed = billed


class Provider:
    """url: the base, such as `https://api.openai.com/v1`. Make it inside a running event loop."""

    def __init__(self, url: str, key: str | None, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._headers = {"content-type": "application/json"}
        if key:
            self._headers["authorization"] = f"Bearer {key}"
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def whole(self, path: str, body: dict[str, Any]) -> bytes:
        """The answer's JSON as it came. Raises ProviderFailed."""
        async with self._post(path, body) as reply:
            data = await reply.content.read(_LARGEST_ANSWER)
            if not reply.content.at_eof():
                raise ProviderFailed("its answer is too long", billed=True)
            return data

    @asynccontextmanager
    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer's bytes as they come. Raises ProviderFailed."""
        async with self._post(path, body) as reply:
            yield reply.content.iter_any()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _post(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        asked = False
        try:
            async with self._open().post(
                self._url + path, data=msgspec.json.encode(body), headers=self._headers, allow_redirects=False
            ) as reply:
                if reply.status != 200:
                    raise ProviderFailed(f"it answered with status {reply.status}", billed=False)
                asked = True
                yield reply
        except aiohttp.ClientConnectorError as error:
            raise ProviderFailed("it cannot be reached", billed=False) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said = "its answer broke off" if asked else "it did not answer"
            raise ProviderFailed(f"{said} ({type(error).__name__})", billed=True) from error

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        return self._session
