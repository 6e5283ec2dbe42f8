"""Money: prices, leases, and the cap that no interleaving and no crash exceeds."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from dreamseed_cli.api.fallback.prices import Prices
from dreamseed_cli.api.fallback.wallet import HeldLease, Reservation, Wallet
from dreamseed_cli.gateway.front.money import grant

_MONTHS = ("2026-11", "2026-12")
_MONEY = st.decimals("0.000001", "5", places=6)


@given(
    st.decimals(0, 999, places=6), st.decimals(0, 999, places=6), st.lists(st.text()), st.integers(1, 5000)
)
def test_what_is_set_aside_covers_what_an_answer_costs(
    price_in: Decimal, price_out: Decimal, texts: list[str], max_tokens: int
) -> None:
    """A token has at least a byte, so no count that a tokenizer can give costs more than was reserved."""
    prices = Prices(price_in, price_out)
    most = prices.at_most(texts, max_tokens)
    prompt_tokens = sum(len(text.encode()) for text in texts) + 16
    assert prices.cost(prompt_tokens, max_tokens) <= most
    assert most == most.quantize(Decimal("0.000001"))


def test_costs_are_rounded_up() -> None:
    """A millionth of a dollar is the smallest coin: rounding down would spend money unseen."""
    assert Prices(Decimal("0.15"), Decimal("0.60")).cost(1, 1) == Decimal("0.000001")
    assert Prices(Decimal("2.5"), Decimal(10)).cost(1000, 200) == Decimal("0.0045")


def test_a_lease_of_one_month_is_not_spent_in_another() -> None:
    """At the month's end its money stays behind, to be accounted for."""
    wallet = Wallet()
    wallet.add(HeldLease("a", "2026-11", Decimal(1)))
    assert wallet.reserve(Decimal("0.5"), "2026-12") is None
    wallet.close_used(["2026-12"])
    assert wallet.reserve(Decimal("0.5"), "2026-11") is None
    assert [lease.id for lease in wallet.due()] == ["a"]
    assert wallet.lacking(["2026-12"]) == ["2026-12"]


def test_a_lease_that_is_heard_of_twice_is_there_once() -> None:
    """What was spent of it stays spent."""
    wallet = Wallet()
    wallet.add(HeldLease("a", "2026-11", Decimal(1)))
    reservation = wallet.reserve(Decimal(1), "2026-11")
    assert reservation is not None
    wallet.settle(reservation, Decimal(1))
    wallet.add(HeldLease("a", "2026-11", Decimal(1)))
    assert wallet.reserve(Decimal("0.1"), "2026-11") is None


def test_a_lease_in_use_is_accounted_for_afterwards() -> None:
    """Closing stops new answers; the account waits for those under way."""
    wallet = Wallet()
    wallet.add(HeldLease("a", "2026-11", Decimal(1)))
    first = wallet.reserve(Decimal("0.4"), "2026-11")
    second = wallet.reserve(Decimal("0.4"), "2026-11")
    assert first is not None
    assert second is not None
    assert wallet.left("2026-11") == Decimal("0.2")
    wallet.settle(first, Decimal("0.1"))
    wallet.close_used(["2026-11"])
    assert wallet.due() == []
    wallet.settle(second, Decimal("0.3"))
    assert [lease.spent for lease in wallet.due()] == [Decimal("0.4")]


def test_a_lease_that_an_answer_cost_nothing_of_is_accounted_for() -> None:
    """What became of that answer leaves with the account."""
    wallet = Wallet()
    wallet.add(HeldLease("a", "2026-11", Decimal(1)))
    wallet.close_used(["2026-11"])
    assert wallet.due() == []
    reservation = wallet.reserve(Decimal(1), "2026-11")
    assert reservation is not None
    wallet.settle(reservation, Decimal(0))
    wallet.close_used(["2026-11"])
    assert [lease.id for lease in wallet.due()] == ["a"]


class Ledger(RuleBasedStateMachine):
    """Several fronts borrow, spend, account, crash and lose answers, in any order, against one table."""

    reservations: Bundle[tuple[int, Reservation | None]] = Bundle("reservations")
    unheard: Bundle[tuple[Wallet, HeldLease]] = Bundle("unheard")

    @initialize(cap=_MONEY)
    def begin(self, cap: Decimal) -> None:
        self.cap = cap
        self.fronts = [Wallet() for _ in range(3)]
        self.table: dict[str, tuple[str, Decimal, Decimal | None]] = {}
        self.really_spent = dict.fromkeys(_MONTHS, Decimal(0))
        self.numbers = 0

    def _committed(self, month: str) -> Decimal:
        return sum(
            (
                granted if spent is None else spent
                for of, granted, spent in self.table.values()
                if of == month
            ),
            Decimal(0),
        )

    @rule(target=unheard, front=st.integers(0, 2), month=st.sampled_from(_MONTHS), wanted=_MONEY)
    def lend(self, front: int, month: str, wanted: Decimal) -> tuple[Wallet, HeldLease]:
        """The table lends; whether the front hears of it is another matter."""
        self.numbers += 1
        granted = grant(wanted=wanted, cap=self.cap, committed=self._committed(month))
        lease = HeldLease(str(self.numbers), month, granted)
        if granted > 0:
            self.table[lease.id] = (month, granted, None)
        return self.fronts[front], lease

    @rule(told=unheard)
    def hear(self, told: tuple[Wallet, HeldLease]) -> None:
        """It may hear of it twice, and after it was accounted for; a front that crashed hears no more."""
        wallet, lease = told
        known = self.table.get(lease.id)
        if known is not None and known[2] is None:
            wallet.add(HeldLease(lease.id, lease.month, lease.granted))

    @rule(
        target=reservations,
        front=st.integers(0, 2),
        month=st.sampled_from(_MONTHS),
        amount=st.decimals("0.000001", "1", places=6),
    )
    def reserve(self, front: int, month: str, amount: Decimal) -> tuple[int, Reservation | None]:
        return front, self.fronts[front].reserve(amount, month)

    @rule(pair=consumes(reservations), share=st.decimals(0, 1, places=2))
    def pay(self, pair: tuple[int, Reservation | None], share: Decimal) -> None:
        """An answer ends: it cost some of what was set aside."""
        front, reservation = pair
        if reservation is None:
            return
        cost = (reservation.amount * share).quantize(Decimal("0.000001"))
        self.fronts[front].settle(reservation, min(cost, reservation.amount))
        self.really_spent[reservation.lease.month] += min(cost, reservation.amount)

    @rule(front=st.integers(0, 2), month=st.sampled_from(_MONTHS), heard=st.booleans())
    def account(self, front: int, month: str, heard: bool) -> None:
        """Close and settle what is due; the answer to that may get lost, and it is told again."""
        wallet = self.fronts[front]
        wallet.close_used([month])
        for lease in wallet.due():
            of, granted, spent = self.table[lease.id]
            self.table[lease.id] = (of, granted, lease.spent if spent is None else spent)
            if heard:
                wallet.forget(lease)

    @rule(front=st.integers(0, 2))
    def end(self, front: int) -> None:
        """SIGTERM with answers under way: what is set aside counts as spent."""
        wallet = self.fronts[front]
        wallet.close_all()
        for lease in wallet.leases():
            of, granted, spent = self.table[lease.id]
            self.table[lease.id] = (of, granted, lease.spent + lease.reserved if spent is None else spent)

    @precondition(lambda self: self.numbers > 0)
    @rule(front=st.integers(0, 2))
    def crash(self, front: int) -> None:
        """Its memory is gone; its leases stay in the table, open. Answers under way may still be billed."""
        self.fronts[front] = Wallet()

    @invariant()
    def the_cap_holds(self) -> None:
        for month in _MONTHS:
            spent = self.really_spent[month] if hasattr(self, "really_spent") else Decimal(0)
            if hasattr(self, "cap"):
                assert spent <= self._committed(month) <= self.cap


TestLedger = Ledger.TestCase
