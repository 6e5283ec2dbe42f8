"""The front as an ASGI application: completions and questions at once, all else through FastAPI."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

from dreamseed_cli.api.completions import completions
from dreamseed_cli.api.courier import Courier
from dreamseed_cli.api.desk import Desk
from dreamseed_cli.api.fallback.answers import Fallback
from dreamseed_cli.api.fallback.keeper import Keeper
from dreamseed_cli.api.fallback.unsent import Unsent
from dreamseed_cli.api.fallback.wallet import Wallet
from dreamseed_cli.api.http import Receive, Scope, Send, respond
from dreamseed_cli.api.library import Library
from dreamseed_cli.api.line import Line
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.questions import PREFIX, Questions
from dreamseed_cli.api.settings import ApiSettings

if TYPE_CHECKING:
    from dreamseed_cli.api.pages import Pages


class Front:
    """Make it inside a running event loop; close() it at the end. Raises what open_channel raises."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._metrics = ApiMetrics()
        self._line = Line(settings, self._metrics)
        self._library = Library(self._line)
        self._keeper: Keeper | None = None
        self._fallback: Fallback | None = None
        if settings.fallback_url is not None:
            self._keeper, self._fallback = self._build_fallback(settings)
            self._keeper.start()
        self._courier = Courier(self._line, self._metrics)
        self._courier.start()
        desk = Desk(settings, self._line, self._courier, self._metrics, self._fallback)
        self._completions = completions(desk)
        self._questions = Questions(self._library, self._metrics, at_once=settings.questions_at_once)
        # FastAPI takes longer to import than all the rest: meanwhile what is asked for most is served.
        self._pages = asyncio.create_task(asyncio.to_thread(self._build_pages))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if (completion := self._completions.get(path)) is not None:
            await completion(scope, receive, send)
        elif path.startswith(PREFIX):
            await self._questions(scope, send)
        elif path == "/healthz":
            await respond(send, 200, [(b"content-type", b"text/plain")], b"ok\n")
        else:
            pages = await asyncio.shield(self._pages)
            await pages(scope, receive, send)

    async def close(self) -> None:
        """Give back the money that was not spent, tell what was refused, and close the line."""
        await self._pages
        ending = [self._courier.stop()]
        if self._keeper is not None:
            ending.append(self._keeper.stop())
        await asyncio.gather(*ending)
        if self._fallback is not None:
            await self._fallback.provider.close()
        await self._line.close()

    def _build_fallback(self, settings: ApiSettings) -> tuple[Keeper, Fallback]:
        wallet = Wallet()
        unsent = Unsent(self._metrics.fallback_events_lost.inc)
        self._metrics.fallback_events_unsent.set_function(unsent.__len__)
        keeper = Keeper(
            self._line,
            wallet,
            self._metrics,
            unsent,
            lease=settings.fallback_lease_usd,
            cap=settings.fallback_monthly_cap_usd or settings.fallback_lease_usd * 0,
        )
        return keeper, Fallback(settings, wallet, self._metrics, unsent, spent=keeper.poke)

    def _build_pages(self) -> Pages:
        """Runs in a thread."""
        if self._fallback is not None:
            import aiohttp  # noqa: F401 - so that the first use of the fallback does not wait for it
        from dreamseed_cli.api.pages import Pages

        pages = Pages(self._settings, self._library, self._metrics)
        # What start-up made stays: collections need not look at it again and pause for less long.
        gc.freeze()
        return pages
