"""The cards' power limits on battery, through the real bindings over a stand-in for NVIDIA's library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_nvml import FakeNvml

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.ups.command import run_command
from dreamseed_cli.ups.journal import UpsFolder
from dreamseed_cli.ups.power_limit import PowerLimits


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two of them at 575 W."""
    fake = FakeNvml(tmp_path)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    return fake


def _set(tmp_path: Path) -> list[str]:
    """What was set, in order."""
    return [line for line in (tmp_path / "nvml.txt").read_text().splitlines() if ".limit" in line]


async def test_limits_are_lowered_and_given_back_by_the_next_watcher(tmp_path: Path, cards: FakeNvml) -> None:
    """No lower than a card takes; and what they were outlives whoever lowered them."""
    folder = UpsFolder(tmp_path / "ups")
    before = await PowerLimits(folder).lower(300.0)
    assert list(before.values()) == [575000, 575000]
    assert _set(tmp_path) == ["0.limit 400000", "1.limit 400000"]
    again = PowerLimits(folder)
    await again.restore()
    assert _set(tmp_path)[2:] == ["0.limit 575000", "1.limit 575000"]
    assert not again.lowered
    await again.restore()


async def test_limits_are_given_back_though_the_disk_took_nothing(tmp_path: Path, cards: FakeNvml) -> None:
    """By the watcher that lowered them."""
    limits = PowerLimits(UpsFolder(tmp_path / "state" / "ups"))
    (tmp_path / "state").write_text("where the folder should be")
    await limits.lower(450.0)
    assert limits.lowered
    await limits.restore()
    assert _set(tmp_path)[2:] == ["0.limit 575000", "1.limit 575000"]
    assert not limits.lowered


async def test_a_card_that_is_lost_keeps_nobody_from_lowering_the_others(
    tmp_path: Path, cards: FakeNvml
) -> None:
    """Nor from giving back what they had; with all of them lost it is told that nothing was lowered."""
    cards.set(cards=3, c1_error=15)
    limits = PowerLimits(UpsFolder(tmp_path / "ups"))
    assert list((await limits.lower(450.0)).values()) == [575000, 575000]
    assert _set(tmp_path) == ["0.limit 450000", "2.limit 450000"]
    await limits.restore()
    assert _set(tmp_path)[2:] == ["0.limit 575000", "2.limit 575000"]
    cards.set(c0_error=15, c2_error=15)
    with pytest.raises(FailedError, match="NVML"):
        await limits.lower(450.0)


async def test_a_card_that_refuses_leaves_all_as_they_were(tmp_path: Path, cards: FakeNvml) -> None:
    """Without root NVML says no."""
    cards.set(c1_fixed=1)
    with pytest.raises(FailedError, match="it takes root"):
        await PowerLimits(UpsFolder(tmp_path / "ups")).lower(450.0)
    assert _set(tmp_path) == ["0.limit 450000", "0.limit 575000"]
    assert not PowerLimits(UpsFolder(tmp_path / "ups")).lowered


async def test_limits_that_cannot_be_given_back_are_kept(tmp_path: Path, cards: FakeNvml) -> None:
    """For the next try."""
    folder = UpsFolder(tmp_path / "ups")
    await PowerLimits(folder).lower(450.0)
    cards.set(c0_fixed=1)
    with pytest.raises(FailedError):
        await PowerLimits(folder).restore()
    assert PowerLimits(folder).lowered


async def test_limits_that_are_lowered_again_are_given_back_as_they_were_at_first(
    tmp_path: Path, cards: FakeNvml
) -> None:
    """The first watcher died in the outage: to the second the cards tell their lowered limits."""
    folder = UpsFolder(tmp_path / "ups")
    await PowerLimits(folder).lower(450.0)
    again = PowerLimits(folder)
    assert await again.lower(450.0) == {}
    await again.lower(420.0)
    await again.restore()
    assert _set(tmp_path)[-2:] == ["0.limit 575000", "1.limit 575000"]


async def test_limits_are_on_disk_before_the_first_card_is_lowered(
    tmp_path: Path, cards: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that is killed in between leaves what they were."""
    folder = UpsFolder(tmp_path / "ups")
    kept: list[dict[str, int] | None] = []

    async def note(argv: Sequence[str], within_s: float) -> str:
        if "lower" in argv:
            kept.append(folder.limits())
        return await run_command(argv, within_s)

    monkeypatch.setattr("dreamseed_cli.ups.power_limit.run_command", note)
    before = await PowerLimits(folder).lower(450.0)
    assert kept == [before]
