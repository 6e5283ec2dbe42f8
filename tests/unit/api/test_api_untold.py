"""What the front remembers of requests that it refused: all of them, in bounded memory."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.api.untold import DOUBT_S, Untold
from dreamseed_cli.gateway.events.flood import ALONE, WINDOW_S
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest


def _ended(number: int, **fields: Any) -> EndedRequest:
    given: dict[str, Any] = {
        "event_id": f"e{number}",
        "outcome": "rejected",
        "reason": "invalid_json",
        "key_hash": b"k1",
        "priority": "premium",
        "workload": "question",
    }
    return EndedRequest(**given | fields)


def _counts(taken: list[EndedRequest]) -> int:
    return sum(each.count if each.HasField("count") else 1 for each in taken)


def test_a_refusal_is_due_at_once_and_a_doubtful_one_after_a_while() -> None:
    """By then the gateway has told of it, if it knows of it."""
    untold = Untold(lambda _: None)
    untold.doubt(_ended(1), now=5.0)
    untold.add(_ended(2), now=5.0)
    assert (bool(untold), untold.requests()) == (True, 2)
    assert [each.event_id for each in untold.oldest(10)] == ["e2"]
    untold.ripen(5.0 + DOUBT_S)
    taken = untold.oldest(10)
    assert [each.event_id for each in taken] == ["e2", "e1"]
    untold.sent(taken)
    assert (bool(untold), untold.requests()) == (False, 0)


def test_a_flood_of_one_caller_becomes_one_with_its_number() -> None:
    """Other callers' stay their own."""
    untold = Untold(lambda _: None)
    for number in range(ALONE + 50):
        untold.add(_ended(number), now=0.0)
    untold.add(_ended(99, key_hash=b"k2"), now=0.0)
    assert len(untold.oldest(1000)) == ALONE
    untold.ripen(WINDOW_S)
    *_, folded, other = untold.oldest(1000)
    assert (folded.key_hash, folded.count) == (b"k1", 50)
    assert (other.event_id, other.HasField("count"), other.key_hash) == ("e99", False, b"k2")


def test_what_the_gateway_refuses_is_lost_and_counted() -> None:
    """As many as it stood for."""
    lost: list[int] = []
    untold = Untold(lost.append)
    for number in range(ALONE + 5):
        untold.add(_ended(number), now=0.0)
    untold.ripen_all()
    untold.refused(untold.oldest(1000))
    assert (sum(lost), bool(untold)) == (ALONE + 5, False)


_KEYS = st.sampled_from([b"", b"k1", b"k2"])
_REASONS = st.sampled_from(["invalid_json", "unavailable"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), _KEYS, _REASONS),
        st.tuples(st.just("doubt"), _KEYS, _REASONS),
        st.tuples(st.sampled_from(["wait", "try", "hand over"]), _KEYS, _REASONS),
    ),
    max_size=200,
)


@given(_STEPS)
def test_none_is_dropped_and_memory_is_bounded(steps: list[tuple[str, bytes, str]]) -> None:
    """However many wait; and what was once shown to the gateway stays as it is, since it may have it."""
    most, reasons = 10, 2
    untold = Untold(lambda _: None, most=most)
    added, handed, now = 0, 0, 0.0
    shown: dict[str, bytes] = {}
    for number, (step, key, reason) in enumerate(steps):
        if step in {"add", "doubt"}:
            keep = untold.add if step == "add" else untold.doubt
            keep(_ended(number, key_hash=key, reason=reason), now)
            added += 1
        elif step == "wait":
            now += 1.0
            untold.ripen(now)
        else:
            taken = untold.oldest(3)
            for each in taken:
                wire = each.SerializeToString(deterministic=True)
                assert shown.setdefault(each.event_id, wire) == wire
            if step == "hand over":
                untold.sent(taken)
                handed += _counts(taken)
        assert untold.requests() + handed == added
        assert len(untold._kept) <= most + reasons
        assert len(untold._doubtful) <= most
    untold.ripen_all()
    rest = untold.oldest(1000)
    assert _counts(rest) + handed == added
