"""Whom the fallback may answer."""

from __future__ import annotations

from dreamseed_cli.api.fallback.seen import SeenKeys


def test_accepted_keys_are_known_for_a_day() -> None:
    """Not before, not for longer, and not once they are refused; the key itself is not kept."""
    seen = SeenKeys()
    assert not seen.knows("ds_a", 0.0)
    seen.note("ds_a", 0.0)
    assert seen.knows("ds_a", 86_400.0)
    assert not seen.knows("ds_a", 86_401.0)
    assert "ds_a" not in repr(vars(seen))
    seen.forget("ds_a")
    seen.forget("ds_never")
    assert not seen.knows("ds_a", 1.0)


def test_the_memory_is_bounded() -> None:
    """The keys that were not used for longest go first."""
    seen = SeenKeys()
    for number in range(100_000):
        seen.note(str(number), 0.0)
    seen.note("0", 1.0)
    seen.note("new", 1.0)
    assert seen.knows("0", 1.0)
    assert not seen.knows("1", 1.0)
