"""The fault matrix of `benchmarks/fault_matrix.py`, each fault once, under load: nobody's request is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from benchmarks.fault_matrix import FAULTS, Fault, case, sound
from benchmarks.soak import QUICK

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_under_load_loses_no_request(fault: Fault) -> None:
    """It is noticed, kept as an incident, and over as it should be. Every request that had not streamed is
    answered, none ends as complete with tokens missing, no process is left. How soon: in the benchmark; here
    callers wait and try for as long as it takes on a busy machine.
    """
    # That hangs are noticed with the default settings, too, one of them shows.
    quick = replace(fault, supervision=QUICK) if fault.name == "engine_frozen" else fault
    patient = replace(quick, retries=2 * quick.retries, deadline_s=90.0)
    cell = asyncio.run(case(patient, loaded=True))
    assert sound(cell), cell
    assert cell["requests"]["answered"] > 20, cell
    # A full disk has no room for what happened on it.
    assert cell["incidents"] or fault.name == "disk_full", cell


def test_an_idle_engine_that_hangs_is_found_by_its_canary() -> None:
    """Nobody asks it anything, and its /health says 200."""
    (hang,) = (fault for fault in FAULTS if fault.name == "engine_hang")
    cell = asyncio.run(case(replace(hang, supervision=QUICK), loaded=False))
    assert sound(cell), cell
    assert cell["incidents"] == ["r0: canary_failed: recovered"]
