"""A soak: a minute of random faults under load; and what it found."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks._fire import all_ready, away, stack
from benchmarks._soak_watch import Series
from benchmarks.soak import RSS_BOUND_MIB_PER_MIN, SEED, memory, problems, soak

pytestmark = pytest.mark.usefixtures("untraced")


def test_a_minute_of_random_faults_leaves_nothing_behind() -> None:
    """Every request has an end that its caller knows, and afterwards the stack is as it was: no process, no
    descriptor, no queue slot more. Hangs are noticed after 3 s here, so that more of them fit in; whether
    memory grows slowly is for the long soak (`python -m benchmarks.soak`).
    """
    found = asyncio.run(soak(1.0, SEED, retries=6, deadline_s=90.0))
    wrong = problems(found)
    assert not wrong, f"seed {SEED}: {wrong}; faults: {found['done']}"
    assert len(found["faults"]) >= 4, f"seed {SEED}: {found['faults']}"


async def test_an_engine_that_hangs_when_it_is_adopted_is_ejected_too(tmp_path: Path) -> None:
    """It says that it is well, so it has started long ago: it need not be given the time of a start."""
    async with stack(tmp_path, supervision="hang_after_s = 3.0") as stand:
        await stand.until(all_ready, 120.0)
        await stand.order("r0", fault="hang")
        assert stand.process
        stand.process.kill()
        stand.process.wait()
        before = stand.child("r0")
        stand.start()
        await stand.until(lambda now: any("Adopted" in note for note in now.notes) and away("r0")(now), 60.0)
        await stand.until(all_ready, 60.0)  # engine.start_timeout_s is 120
        assert stand.child("r0") != before


@pytest.mark.parametrize(
    ("life_s", "judged_s", "leak", "told"),
    [(100, 50, 0.0, False), (185, 65, 0.0, True), (185, 65, 1.5, True), (600, 300, 1.5, True)],
)
def test_memory_is_judged_after_the_warm_up(life_s: int, judged_s: int, leak: float, told: bool) -> None:
    """What grows in the first two minutes is no leak; what goes on growing is one."""
    times_s = [30.0 + at for at in range(0, life_s + 1, 5)]
    rss_mib = [100.0 + min(at - 30.0, 120.0) / 20.0 + leak * at / 60.0 for at in times_s]
    found = memory(Series("gateway", 1, times_s, [], rss_mib))
    assert found["judged_s"] == judged_s
    assert (found["bound_mib_per_min"] == RSS_BOUND_MIB_PER_MIN) == told
    assert not told or found["slope_mib_per_min"] == pytest.approx(leak, abs=0.01)
