"""Answers of the fallback: paid from the wallet, passed on under their own model's name, kept as events."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.fallback.course import Course, Order, Usage
from dreamseed_cli.api.fallback.keeper import month, utc_now
from dreamseed_cli.api.fallback.prices import Prices
from dreamseed_cli.api.fallback.provider import Provider, ProviderFailed
from dreamseed_cli.api.fallback.unsent import Unsent
from dreamseed_cli.api.fallback.wallet import Wallet
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.protocol import ChatRequest
from dreamseed_cli.api.settings import ApiSettings
from dreamseed_cli.api.translate import Asked, for_fallback
from dreamseed_cli.engine.sse import EventTooLong, SseDecoder
from dreamseed_cli.gateway.events.ids import EventIds
from dreamseed_cli.gateway.events.record import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = structlog.get_logger(__name__)
_DEFAULT_MAX_TOKENS = 200  # §D1
_OUTCOMES = {"answered": Outcome.FINISHED, "failed": Outcome.FAILED, "cut": Outcome.CANCELLED}


class _Told(msgspec.Struct, frozen=True):
    """What is read of the fallback's JSON; the rest is passed on unread."""

    usage: Usage | None = None
    choices: tuple[msgspec.Raw, ...] = ()
    error: Any = None


class _Piece(msgspec.Struct, frozen=True):
    """A choice of a chunk, in either dialect."""

    class Delta(msgspec.Struct, frozen=True):
        content: str | None = None

    delta: Delta = Delta()
    text: str | None = None


class _Bill:
    """What one answer costs; all that was set aside, until the fallback tells the truth."""

    def __init__(self, prices: Prices, reserved: Decimal) -> None:
        self._prices = prices
        self.cost = reserved
        self.course = Course()

    def note(self, told: _Told) -> None:
        self.course.note(told.usage, told.choices)
        if told.usage is not None:
            self.cost = self._prices.cost(told.usage.prompt_tokens, told.usage.completion_tokens)

    def cancel(self) -> None:
        """Nothing was generated."""
        self.cost = Decimal(0)


class AnswerCut(Exception):
    """The fallback's stream ended before its answer."""


class Emitted:
    """What of a streamed answer was passed on."""

    def __init__(self) -> None:
        self._choices: list[msgspec.Raw] = []

    def add(self, choices: Sequence[msgspec.Raw]) -> None:
        self._choices += choices

    def text(self) -> str:
        return "".join(map(_text, self._choices))


class Fallback:
    """unsent: where what became of each answer is kept for the gateway. spent: called when an answer was paid
    for. All methods raise ApiError 503 with the reason.
    """

    def __init__(
        self,
        settings: ApiSettings,
        wallet: Wallet,
        metrics: ApiMetrics,
        unsent: Unsent,
        *,
        spent: Callable[[], None],
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        key = settings.fallback_api_key
        self.provider = Provider(
            settings.fallback_url or "", key.get_secret_value() if key else None, settings.fallback_timeout_s
        )
        self._settings = settings
        self._prices = Prices(
            settings.fallback_input_usd_per_mtok or Decimal(0),
            settings.fallback_output_usd_per_mtok or Decimal(0),
        )
        self._wallet = wallet
        self._metrics = metrics
        self._unsent = unsent
        self._event_ids = EventIds()
        self._spent = spent
        self._now = now

    async def whole(self, order: Order) -> bytes:
        """The answer's JSON, as the fallback wrote it."""
        body = self._body(order.asked)
        with self._paying(body, order) as bill:
            answer = await self.provider.whole(_path(order.asked), body)
            bill.note(_read(answer))
            return answer

    async def stream(self, order: Order, emitted: Emitted) -> AsyncGenerator[bytes, None]:
        """The answer's events as the fallback wrote them, up to [DONE], which is left out. `emitted` is
        told of them. Raises ApiError before the first event, AnswerCut after it.
        """
        begun = False
        asked = order.asked
        body = self._body(asked)
        try:
            with self._paying(body, order) as bill:
                async with (
                    self.provider.stream(_path(asked), body) as data,
                    aclosing(_payloads(data)) as payloads,
                ):
                    async for payload in payloads:
                        told = _read(payload)
                        bill.note(told)
                        if told.error is not None:
                            raise ProviderFailed("it broke its answer off", billed=True)
                        # A chunk without choices holds the usage, which we asked for and the client may not.
                        if told.choices or asked.include_usage:
                            begun = True
                            bill.course.streams()
                            emitted.add(told.choices)
                            yield b"data: %b\n\n" % payload
        except ApiError as error:
            if begun:
                raise AnswerCut from error
            raise

    @contextmanager
    def _paying(self, body: dict[str, Any], order: Order) -> Iterator[_Bill]:
        """Set money aside, and settle at the end, however it comes; that end becomes an event."""
        amount = self._prices.at_most(_texts(body), _max_tokens(order.asked))
        reservation = self._wallet.reserve(amount, month(self._now()))
        if reservation is None:
            self._metrics.fallback.labels("no_money").inc()
            raise _unavailable("the fallback has no money left that covers this request", "no_money")
        order.trail.told = True
        bill = _Bill(self._prices, amount)
        outcome = "cut"
        try:
            yield bill
            outcome = "answered"
        except (ProviderFailed, EventTooLong) as failed:
            outcome = "failed"
            if isinstance(failed, ProviderFailed) and not failed.billed:
                bill.cancel()
            _log.warning("fallback failed", cause=str(failed))
            raise _unavailable("the fallback failed as well", "fallback_failed") from failed
        finally:
            self._wallet.settle(reservation, bill.cost)
            self._keep(reservation.lease.id, order, bill.course, _OUTCOMES[outcome])
            self._metrics.fallback.labels(outcome).inc()
            self._metrics.fallback_spent.inc(float(bill.cost))
            self._metrics.fallback_left.set(float(self._wallet.left(month(self._now()))))
            self._spent()

    def _keep(self, lease_id: str, order: Order, course: Course, outcome: Outcome) -> None:
        model = self._settings.fallback_model or ""
        self._unsent.add(lease_id, course.ended(order, self._event_ids, model, outcome))

    def _body(self, asked: Asked) -> dict[str, Any]:
        return for_fallback(
            asked,
            model=self._settings.fallback_model,
            tokens_field=self._settings.fallback_tokens_field,
            max_tokens=_max_tokens(asked),
        )


async def _payloads(data: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The events' payloads up to [DONE]. Raises ProviderFailed if that does not come."""
    decoder = SseDecoder()
    async for piece in data:
        for payload in decoder.feed(piece):
            if payload == b"[DONE]":
                return
            yield payload
    raise ProviderFailed("its answer broke off", billed=True)


def _unavailable(why: str, reason: str) -> ApiError:
    said = f"the service cannot reach its engines, and {why}"
    return ApiError(503, said, code="unavailable", retry_after_s=5, reason=reason)


def _read(payload: bytes) -> _Told:
    try:
        return msgspec.json.decode(payload, type=_Told)
    except msgspec.MsgspecError as error:
        raise ProviderFailed("what it answered is not OpenAI's JSON", billed=True) from error


def _text(choice: msgspec.Raw) -> str:
    """The text that a chunk's choice adds; none where it is of another shape."""
    try:
        piece = msgspec.json.decode(choice, type=_Piece)
    except msgspec.MsgspecError:
        return ""
    return piece.delta.content or piece.text or ""


def _path(asked: Asked) -> str:
    return "/chat/completions" if isinstance(asked.request, ChatRequest) else "/completions"


def _max_tokens(asked: Asked) -> int:
    return asked.message.max_tokens or _DEFAULT_MAX_TOKENS


def _texts(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body.get("messages", ())] or [body["prompt"]]
