"""The balancer's table under any sequence of picks, ends and changes."""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dreamseed_cli.gateway.balancer import Balancer, Lease, Outcome, Slot

_NAMES = st.sampled_from(["r0", "r1", "r2", "r3"])


class _BalancerMachine(RuleBasedStateMachine):
    """Replicas come, go and change state while requests are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.balancer = Balancer()
        self.leases: list[Lease] = []
        self.ended: Counter[Outcome] = Counter()

    @rule(wanted=st.dictionaries(_NAMES, st.booleans()))
    def change_the_table(self, wanted: dict[str, bool]) -> None:
        known = {slot.name: slot for slot in self.balancer.slots}
        slots = []
        for name, ready in wanted.items():
            slot = known.get(name) or Slot(name, ready)
            slot.ready = ready
            slots.append(slot)
        self.balancer.replace(slots)

    @rule(tokens=st.integers(0, 5000), excluded=st.sets(_NAMES))
    def pick(self, tokens: int, excluded: set[str]) -> None:
        excluding = [slot for slot in self.balancer.slots if slot.name in excluded]
        allowed = [slot for slot in self.balancer.slots if slot.ready and slot.name not in excluded]
        before = {slot: (slot.outstanding_tokens, slot.outstanding, slot.last_picked) for slot in allowed}
        lease = self.balancer.pick(tokens, excluding)
        assert (lease is None) == (not allowed)
        if lease is not None:
            assert before[lease.slot] == min(before.values())
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        self.balancer.finish(lease, outcome, tokens=3)
        self.ended[outcome] += 1

    @invariant()
    def what_is_outstanding_is_what_was_picked_and_not_ended(self) -> None:
        for slot in self.balancer.slots:
            mine = [lease for lease in self.leases if lease.slot is slot]
            assert slot.outstanding == len(mine)
            assert slot.outstanding_tokens == sum(lease.estimated_tokens for lease in mine)

    @invariant()
    def totals_count_every_request_once(self) -> None:
        totals = self.balancer.totals
        assert totals.outstanding == len(self.leases)
        assert totals.outstanding_tokens == sum(lease.estimated_tokens for lease in self.leases)
        assert totals.outcomes == {outcome: self.ended[outcome] for outcome in Outcome}
        assert totals.tokens == 3 * self.ended.total()


TestBalancer = _BalancerMachine.TestCase


def test_equal_replicas_take_turns() -> None:
    """On a tie the replica that was picked longest ago is next, so that idle ones share the work."""
    balancer = Balancer()
    balancer.replace([Slot("r0", ready=True), Slot("r1", ready=True), Slot("r2", ready=True)])
    picked = []
    for _ in range(6):
        lease = balancer.pick(100)
        assert lease is not None
        balancer.finish(lease, Outcome.FINISHED, 100)
        picked.append(lease.slot.name)
    assert picked == ["r0", "r1", "r2", "r0", "r1", "r2"]


def test_work_counts_in_tokens_not_in_requests() -> None:
    """Three short requests weigh less than one long one."""
    balancer = Balancer()
    balancer.replace([Slot("r0", ready=True), Slot("r1", ready=True)])
    names = [lease.slot.name for tokens in (1000, 100, 100, 100) if (lease := balancer.pick(tokens))]
    assert names == ["r0", "r1", "r1", "r1"]
