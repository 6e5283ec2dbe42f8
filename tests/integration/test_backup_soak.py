"""The soak of the backups in its short form, and how it is judged."""

from __future__ import annotations

import json

import pytest

from benchmarks._backup_faults import KINDS
from benchmarks._backup_truth import SEGMENT_BYTES, Ledger, Reach, Transaction, reach_of
from benchmarks.backup_soak import RESULT, SEED, SHORT, measurements, problems, soak

pytestmark = pytest.mark.usefixtures("untraced")

SEGMENT = "wal/00000001/0000000100000000000000{:02X}." + "0" * 64


def test_every_kind_of_kill_costs_nothing_that_the_store_held() -> None:
    """PostgreSQL, the archive command, backup runs and the store, each killed under load: the archive goes
    on, `status` never promises more than there is, and after the loss of the machine all that the store held
    is found again. (The RPO itself only a long soak judges: see Plan.)
    """
    found = soak(SHORT, SEED)
    wrong = problems(found)
    assert not wrong, f"seed {SEED}: {wrong}; faults: {found['done']}"
    assert set(found["faults"]) == set(KINDS)


def test_the_committed_soak_judges_the_rpo_by_its_worst_moment() -> None:
    """In minutes; a soak with a problem judges nothing."""
    found = json.loads(RESULT.read_text())
    (one,) = measurements(found)
    assert (one["key"], one["unit"]) == ("rpo-min", "min")
    assert one["value"] * 60 == pytest.approx(found["rpo"]["worst_s"], abs=0.05)
    assert found["measurements"] == [one]
    assert measurements({**found, "problems": ["something"]}) == []


def test_what_a_store_could_give_back_ends_at_its_first_hole() -> None:
    """A backup brings its own WAL along; the archive carries it on, segment by segment."""
    manifest = {"backups/x/manifest.json": b'{"wal": {"stop_lsn": "0/3000100"}}'}
    assert reach_of({}).lsn == 0
    assert reach_of(manifest).lsn == 0x3000100
    archived = {SEGMENT.format(number): b"" for number in (1, 3, 4, 6)}
    reach = reach_of({**manifest, **archived})
    assert reach == Reach(5 * SEGMENT_BYTES, 4, 1)
    assert reach_of(archived).lsn == 0


def test_the_loss_is_the_age_of_the_oldest_that_would_not_come_back() -> None:
    """Of all writers; a promise is kept if nothing older is missing."""
    ledger = Ledger()
    for writer, number, at, lsn in (
        (1, 1, 10.0, 100),
        (1, 2, 20.0, 900),
        (2, 1, 15.0, 700),
        (2, 2, 30.0, 950),
    ):
        ledger.add(Transaction(writer, number, at, lsn))
    reach = Reach(600, 1, 1)
    assert ledger.loss_s(reach, 40.0) == 25.0
    assert ledger.loss_s(Reach(1000, 1, 1), 40.0) == 0.0
    assert ledger.keeps(reach, 14.9)
    assert not ledger.keeps(reach, 15.0)


def test_a_soak_that_lost_something_is_told() -> None:
    """Each law by itself."""
    restore = {"held_and_missing": 0, "lost_s": 3.0}
    good = {
        "minutes": 1.0,
        "acknowledged": 10_000,
        "target_s": 30.0,
        "archived_since": 3,
        "rpo": {"worst_s": 20.0, "worst_claim_s": 25.0, "false_claims": [], "no_rpo": [], "claims": 30},
        "rehearsals": [restore],
        "disaster": restore,
    }
    assert problems(good) == []
    for part, worse in (
        ("acknowledged", 10),
        ("archived_since", 0),
        ("rpo", {**good["rpo"], "worst_s": 31.0}),  # type: ignore[dict-item]
        ("rpo", {**good["rpo"], "worst_claim_s": 31.0}),  # type: ignore[dict-item]
        ("rpo", {**good["rpo"], "false_claims": ["too much"]}),  # type: ignore[dict-item]
        ("rpo", {**good["rpo"], "no_rpo": ["a clock is wrong"]}),  # type: ignore[dict-item]
        ("rpo", {**good["rpo"], "claims": 1}),  # type: ignore[dict-item]
        ("disaster", {**restore, "held_and_missing": 1}),
        ("rehearsals", [{**restore, "lost_s": 31.0}]),
    ):
        assert len(problems({**good, part: worse})) == 1, part
