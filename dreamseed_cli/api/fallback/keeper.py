"""Keeps the wallet filled while the gateway is there, and accounts for what was spent and answered."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal

import grpc
import structlog

from dreamseed_cli.api.fallback.unsent import Unsent
from dreamseed_cli.api.fallback.wallet import HeldLease, Wallet
from dreamseed_cli.api.line import Line
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.core.waiting import ended, set_within
from dreamseed_cli.gateway.front import MOST_AT_ONCE, SETTLE_LEASE, TAKE_LEASE
from dreamseed_cli.gateway.front.money import from_micro, to_micro
from dreamseed_cli.gateway.proto.front_pb2 import Lease, SettleLeaseRequest, TakeLeaseRequest

_log = structlog.get_logger(__name__)
_CALL_TIMEOUT_S = 3.0
_STOP_S = 3.0
_EVERY_S = 5.0
_MONTH_AHEAD = dt.timedelta(hours=2)


def utc_now() -> dt.datetime:
    """The present, in UTC."""
    return dt.datetime.now(dt.UTC)


def month(moment: dt.datetime) -> str:
    """The calendar month whose money is spent at a moment in UTC: `YYYY-MM`."""
    return f"{moment:%Y-%m}"


class Keeper:
    """unsent: the answers that leave with the accounts. lease, cap: US dollars. now: the present, in UTC."""

    def __init__(
        self,
        line: Line,
        wallet: Wallet,
        metrics: ApiMetrics,
        unsent: Unsent,
        *,
        lease: Decimal,
        cap: Decimal,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._line = line
        self._wallet = wallet
        self._metrics = metrics
        self._unsent = unsent
        self._lease = lease
        self._cap = cap
        self._now = now
        self._holder = f"front-{uuid.uuid4().hex[:12]}"
        # An answer that got lost may have lent money: asking again with the same id lends no more.
        self._ids: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        encode = SettleLeaseRequest.SerializeToString
        self._settle = line.channel.unary_unary(SETTLE_LEASE, encode, Lease.FromString)
        self._take = line.channel.unary_unary(
            TAKE_LEASE, TakeLeaseRequest.SerializeToString, Lease.FromString
        )

    def start(self) -> None:
        """Begin to look after the wallet in the background."""
        self._task = asyncio.create_task(self._run())

    def poke(self) -> None:
        """Money was spent, or the gateway is back: look at once."""
        self._changed.set()

    async def stop(self) -> None:
        """Give everything back; what is still reserved counts as spent. Takes at most a few seconds.

        Answers that the gateway does not take by then are lost.
        """
        if self._task is not None:
            await ended(self._task)
        self._wallet.close_all()
        # What was asked for and not heard of may have been lent.
        unheard = [HeldLease(lease_id, lacking, Decimal(0)) for lacking, lease_id in self._ids.items()]
        leases = [*self._wallet.leases(), *unheard]
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*(self._account(lease) for lease in leases))
        if self._unsent:
            _log.warning("answers of the fallback leave no event", answers=len(self._unsent))

    async def tend(self) -> None:
        """Account for what was spent, and borrow what is lacking; failures are logged and left for later."""
        now = self._now()
        months = sorted({month(now), month(now + _MONTH_AHEAD)})
        self._wallet.close_used(months)
        for lease in self._wallet.due():
            await self._account(lease)
        for lacking in self._wallet.lacking(months):
            await self._borrow(lacking)
        self._metrics.fallback_left.set(float(self._wallet.left(month(now))))

    async def _run(self) -> None:
        while True:
            if await self._line.ready_within(_CALL_TIMEOUT_S):
                await self.tend()
            await set_within(self._changed, _EVERY_S)
            self._changed.clear()

    async def _account(self, lease: HeldLease) -> None:
        """With as many calls as its answers take; the first that is taken settles, the others only add."""
        spent = to_micro(lease.spent + lease.reserved)
        settled = False
        while (answers := self._unsent.of(lease.id, MOST_AT_ONCE)) or not settled:
            request = SettleLeaseRequest(lease_id=lease.id, spent_micro_usd=spent, answers=answers)
            try:
                await self._settle(request, timeout=_CALL_TIMEOUT_S, metadata=self._line.metadata())
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code is grpc.StatusCode.INVALID_ARGUMENT and answers:
                    _log.error("answers of the fallback refused", answers=len(answers), said=error.details())
                    self._unsent.refused(answers)
                    continue  # the money does not wait for them
                if code is not grpc.StatusCode.NOT_FOUND:
                    _log.warning("fallback lease not accounted for", lease=lease.id, status=code.name)
                    return
            self._unsent.sent(answers)
            settled = True
        self._wallet.forget(lease)
        _log.info("fallback lease accounted for", lease=lease.id, month=lease.month, spent_micro_usd=spent)

    async def _borrow(self, lacking: str) -> None:
        request = TakeLeaseRequest(
            lease_id=self._ids.setdefault(lacking, str(uuid.uuid4())),
            month=lacking,
            holder=self._holder,
            amount_micro_usd=to_micro(self._lease),
            cap_micro_usd=to_micro(self._cap),
        )
        try:
            lent = await self._take(request, timeout=_CALL_TIMEOUT_S, metadata=self._line.metadata())
        except grpc.aio.AioRpcError as error:
            _log.warning("no fallback lease", month=lacking, status=error.code().name)
            return
        del self._ids[lacking]
        granted = from_micro(lent.granted_micro_usd)
        if granted > 0 and not lent.HasField("spent_micro_usd"):
            self._wallet.add(HeldLease(lent.lease_id, lent.month, granted))
        _log.info("fallback lease", month=lent.month, granted_micro_usd=lent.granted_micro_usd)
