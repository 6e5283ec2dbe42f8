"""What may be lent, and of which month."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.gateway.front.money import from_micro, grant, lendable_months, month_of, to_micro

_ROOT = Path(__file__).resolve().parents[4]
_PACKAGE = Path("dreamseed_cli/gateway/proto")


@given(st.integers(0, 999_999_999_999))
def test_amounts_survive_the_wire(micro_usd: int) -> None:
    """Millionths to dollars and back, without a float in between."""
    assert to_micro(from_micro(micro_usd)) == micro_usd


@given(*[st.decimals(0, 1000, places=6)] * 3)
def test_never_more_than_wanted_nor_than_is_left(wanted: Decimal, cap: Decimal, committed: Decimal) -> None:
    """And never less than nothing, even if the cap was lowered below what is committed."""
    granted = grant(wanted=wanted, cap=cap, committed=committed)
    assert 0 <= granted <= wanted
    assert granted == 0 or committed + granted <= cap


def test_the_months_at_an_end_of_a_month() -> None:
    """A day either way: clocks differ, and a front must cross midnight without the gateway."""
    middle = dt.datetime(2026, 11, 15, tzinfo=dt.UTC)
    last_day = dt.datetime(2026, 12, 31, 1, tzinfo=dt.UTC)
    first_day = dt.datetime(2027, 1, 1, 23, tzinfo=dt.UTC)
    assert lendable_months(middle) == {dt.date(2026, 11, 1)}
    assert lendable_months(last_day) == {dt.date(2026, 12, 1), dt.date(2027, 1, 1)}
    assert lendable_months(first_day) == {dt.date(2026, 12, 1), dt.date(2027, 1, 1)}


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-1", "2026-13", "26-11", "2026-11-01", "abcd-ef", "²026-11"]
)
def test_what_is_no_month(text: str) -> None:
    """ValueError, whatever it is."""
    with pytest.raises(ValueError, match=r".+"):
        month_of(text)


def test_the_generated_code_is_what_the_proto_says(tmp_path: Path) -> None:
    """The committed Python is what `scripts/generate_proto.py` makes now."""
    subprocess.run([sys.executable, _ROOT / "scripts/generate_proto.py", tmp_path], check=True)
    for name in ("front_pb2.py", "front_pb2.pyi"):
        fresh, committed = tmp_path / _PACKAGE / name, _ROOT / _PACKAGE / name
        assert fresh.read_text() == committed.read_text(), "run scripts/generate_proto.py"
