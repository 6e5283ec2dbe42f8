"""A soak of the backups (§E3): writers without a pause, and PostgreSQL, archive, backups and store killed.

Judged at every moment by what the store itself holds: no acknowledged transaction is ever missing in it for
longer than the RPO's target, and `backup status` never promises more than is there. At the end the machine is
lost: all that was acknowledged longer ago than the target is found after a restore, as is all that the store
held.
Run it from the repository root: `python -m benchmarks.backup_soak`; the seed tells which faults come.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks._backup_faults import KINDS, Faults
from benchmarks._backup_site import Site, restored, site
from benchmarks._backup_truth import Ledger, Reach, Transaction
from benchmarks.gateway_overhead import device
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.estimates.results import Measurement

RESULT = Path(__file__).parent / "results" / "backup_soak.json"
SEED = 20261130
WRITERS = 3
PAUSE_S = 0.01
LOOK_EVERY_S = 0.5
CLAIM_EVERY_S = 2.0
_CLAIMS_TO_BE = 5
_LONGEST = 12.0  # times the plan's minutes


@dataclass(frozen=True, slots=True)
class Plan:
    """How a soak goes. minutes: of writing. upload_s: of the target, for a segment's way into the store; the
    rest of it is the archive's timeout. outage_s: the longest of the store. rehearsals: restores beside it.

    One that writes for less time than its target can hardly break it: such a short one judges that the
    archive went on at all, what `status` promises, and what comes back; only a long one judges the RPO. A
    target that it could break, however long it takes to meet every fault, would judge the machine.
    """

    minutes: float
    target_s: float
    upload_s: float
    outage_s: float
    rehearsals: int


LONG = Plan(minutes=15.0, target_s=90.0, upload_s=60.0, outage_s=12.0, rehearsals=3)
SHORT = Plan(minutes=0.3, target_s=240.0, upload_s=230.0, outage_s=2.0, rehearsals=0)


@dataclass
class Watch:
    """What was seen. series: the loss a disaster would have cost, by moment. claims: what `status` said.

    no_rpo: why it gave none although there was a backup. unknown: how often it could not look.
    """

    site: Site
    ledger: Ledger
    began: float = field(default_factory=time.time)
    series: list[tuple[float, float]] = field(default_factory=list)
    claims: list[float] = field(default_factory=list)
    false_claims: list[str] = field(default_factory=list)
    no_rpo: list[str] = field(default_factory=list)
    unknown: int = 0

    def look(self, _stop: threading.Event) -> None:
        """The truth. The moment first: what is stored meanwhile only makes it look worse."""
        now = time.time()
        self.series.append((now - self.began, self.ledger.loss_s(self.site.reach(), now)))

    def claim(self, _stop: threading.Event) -> None:
        """What the program says, which may be less than the truth but never more."""
        try:
            rpo = self.site.doors.status().rpo
        except DreamseedError:
            self.unknown += 1
            return
        if rpo.rpo_s is None or rpo.restorable_until is None:
            self.no_rpo.append(rpo.note)
            return
        self.claims.append(rpo.rpo_s)
        until = rpo.restorable_until
        if not self.ledger.keeps(self.site.reach(), until.timestamp()):
            self.false_claims.append(f"everything until {until} can be restored, says status")

    def beat(self, _stop: threading.Event) -> None:
        """The heartbeat that the schedule's tick makes."""
        with suppress(DreamseedError, psycopg.Error):
            self.site.doors.look()


def soak(plan: Plan, seed: int) -> dict[str, Any]:
    """One soak; what came of it, JSON-able."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-bs-") as name,
        site(Path(name), plan.target_s, plan.upload_s) as at,
    ):
        at.b2.longest_hold_s = plan.outage_s
        ledger, stop = Ledger(), threading.Event()
        _make_table(at)
        at.back_up()
        begun = at.reach().segments
        watch, faults = Watch(at, ledger), Faults(at, random.Random(seed), plan.outage_s)  # noqa: S311
        with ThreadPoolExecutor(WRITERS + 3) as pool:
            busy = [pool.submit(_write, at, ledger, number, stop) for number in range(WRITERS)]
            busy += [
                pool.submit(_often, watch.look, LOOK_EVERY_S, stop),
                pool.submit(_often, watch.claim, CLAIM_EVERY_S, stop),
                pool.submit(_often, watch.beat, plan.target_s / 3, stop),
            ]
            try:
                rehearsed = _disturb(at, ledger, plan, faults, busy, watch)
                disaster = _disaster(at)
            finally:
                stop.set()
        for one in busy:
            one.result()
        return {
            "minutes": plan.minutes,
            "seed": seed,
            "target_s": plan.target_s,
            "archive_timeout_s": at.archive_timeout_s,
            "acknowledged": len(ledger.all()),
            "faults": dict(Counter(name for _, name in faults.done)),
            "killed": {"archive commands": faults.pushes_killed, "backups": faults.backups_killed},
            "rpo": _rpo(watch, plan),
            "store": {"segments": disaster.reach.segments, "backups": disaster.reach.backups},
            "archived_since": disaster.reach.segments - begun,
            "rehearsals": rehearsed,
            "disaster": _found_after(at, ledger, disaster),
            "series": [(round(at_s, 1), round(loss_s, 2)) for at_s, loss_s in watch.series],
            "done": [(round(moment - watch.began, 1), name) for moment, name in faults.done],
        }


@dataclass(frozen=True, slots=True)
class Disaster:
    """A moment, and what the store held at it."""

    at: float
    reach: Reach


def problems(found: dict[str, Any]) -> list[str]:
    """What is not as it has to be, in words; nothing if all is well."""
    rpo, target_s = found["rpo"], found["target_s"]
    said = {
        f"hardly anything was written: {found['acknowledged']}": found["acknowledged"]
        < found["minutes"] * 600,
        f"a disaster would have cost {rpo['worst_s']} s, the target is {target_s} s": rpo["worst_s"]
        > target_s,
        "nothing was archived since the first backup": found["archived_since"] < 1,
        f"status said {rpo['worst_claim_s']} s, the target is {target_s} s": rpo["worst_claim_s"] > target_s,
        f"status promised too much: {rpo['false_claims'][:3]}": rpo["false_claims"],
        f"status gave no RPO: {rpo['no_rpo'][:3]}": rpo["no_rpo"],
        f"status was hardly ever asked: {rpo['claims']}": rpo["claims"] < _CLAIMS_TO_BE,
    }
    for restore in [*found["rehearsals"], found["disaster"]]:
        said[f"the store held what was not restored: {restore}"] = restore["held_and_missing"]
        said[f"more than the target was lost: {restore}"] = restore["lost_s"] > target_s
    return [words for words, wrong in said.items() if wrong]


def measurements(found: dict[str, Any]) -> list[dict[str, Any]]:
    """§E3's RPO: the most that a disaster would have cost at any moment; of a soak without a problem only."""
    if found["problems"]:
        return []
    rpo = found["rpo"]
    worst_min = round(rpo["worst_s"] / 60, 3)
    one = Measurement(key="rpo-min", value=worst_min, unit="min", provenance="measured", n=rpo["moments"])
    return [one.model_dump(mode="json", exclude_none=True)]


def _disturb(
    at: Site, ledger: Ledger, plan: Plan, faults: Faults, busy: list[Future[None]], watch: Watch
) -> list[dict[str, Any]]:
    """Fault after fault until the time is over; a whole backup and a rehearsal at even distances.

    A short one goes on until each fault came and `status`, which waits while the store is away, was asked
    often enough to be judged, on a machine of any speed; but not forever.
    """
    began = time.monotonic()
    end = began + plan.minutes * 60
    at_most = began + _LONGEST * plan.minutes * 60
    step = plan.minutes * 60 / (plan.rehearsals + 1)
    rehearsed: list[dict[str, Any]] = []

    def goes_on(now: float) -> bool:
        seen = len(faults.done) >= len(KINDS) and len(watch.claims) >= _CLAIMS_TO_BE
        return now < end or (not seen and now < at_most)

    while goes_on(time.monotonic()):
        for one in busy:
            if one.done():
                one.result()
        faults.one()
        time.sleep(faults.rng.uniform(0.2, 3.0) if plan.rehearsals else 0.2)
        if len(rehearsed) < plan.rehearsals and time.monotonic() > end - step * (
            plan.rehearsals - len(rehearsed)
        ):
            at.back_up()
            now = Disaster(time.time(), at.reach())
            rehearsed.append(_found_after(at, ledger, now))
    return rehearsed


def _disaster(at: Site) -> Disaster:
    """The machine is lost: the server, what it was just archiving, and its disk."""
    pushes = at.pushes()
    at.postgres.kill()
    for process in pushes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    moment = time.time()
    shutil.rmtree(at.postgres.server.data)
    return Disaster(moment, at.reach())


def _found_after(at: Site, ledger: Ledger, disaster: Disaster) -> dict[str, Any]:
    """Restore to the latest moment, and compare with what was acknowledged before the disaster."""
    before = [one for one in ledger.all() if one.at <= disaster.at]
    began = time.monotonic()
    with (
        restored(at, f"back-{int(began)}") as server,
        psycopg.connect(server.server.dsn("postgres")) as connection,
    ):
        found = set(connection.execute("SELECT writer, number FROM ledger").fetchall())
    seconds = time.monotonic() - began
    missing = [one for one in before if (one.writer, one.number) not in found]
    return {
        "acknowledged": len(before),
        "found": len(before) - len(missing),
        "held_and_missing": sum(disaster.reach.has(one.lsn) for one in missing),
        "lost": len(missing),
        "lost_s": round(max((disaster.at - one.at for one in missing), default=0.0), 2),
        "seconds": round(seconds, 1),
    }


def _write(at: Site, ledger: Ledger, writer: int, stop: threading.Event) -> None:
    """A transaction after the other; what was cut off is not acknowledged, whatever became of it."""
    number = 0
    while not stop.is_set():
        with (
            suppress(psycopg.Error),
            psycopg.connect(
                at.postgres.server.dsn("postgres"), autocommit=True, connect_timeout=2
            ) as connection,
        ):
            while not stop.wait(PAUSE_S):
                number += 1
                connection.execute("INSERT INTO ledger VALUES (%s, %s, %s)", (writer, number, "x" * 100))
                row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
                assert row is not None
                ledger.add(Transaction(writer, number, time.time(), int(row[0])))
        stop.wait(PAUSE_S)


def _often(work: Callable[[threading.Event], None], every_s: float, stop: threading.Event) -> None:
    while not stop.wait(every_s):
        work(stop)


def _make_table(at: Site) -> None:
    with psycopg.connect(at.postgres.server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE ledger (writer int, number int, text text, PRIMARY KEY (writer, number))"
        )


def _rpo(watch: Watch, plan: Plan) -> dict[str, Any]:
    losses = [loss_s for _, loss_s in watch.series]
    return {
        "moments": len(losses),
        "worst_s": round(max(losses, default=0.0), 2),
        "median_s": round(statistics.median(losses or [0.0]), 2),
        "moments_over_target": sum(loss_s > plan.target_s for loss_s in losses),
        "claims": len(watch.claims),
        "worst_claim_s": round(max(watch.claims, default=0.0), 2),
        "false_claims": watch.false_claims,
        "no_rpo": watch.no_rpo,
        "not_told": watch.unknown,
    }


def main() -> None:
    """Run it and write the result; exit code 1 if something is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="as the tests run it")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=None, help=f"for the committed result: {RESULT}")
    options = parser.parse_args()
    found = {
        "benchmark": "backup_soak",
        "device": device(),
        "provenance": "measured: PostgreSQL, archive, backups and restores; the B2 bucket is simulated",
        "writers": WRITERS,
        **soak(SHORT if options.short else LONG, options.seed),
    }
    found["problems"] = problems(found)
    found["measurements"] = measurements(found)
    print(
        json.dumps(
            {name: value for name, value in found.items() if name not in {"series", "device"}}, indent=1
        )
    )
    if options.output is not None:
        options.output.write_text(json.dumps(found) + "\n")
    sys.exit(bool(found["problems"]))


if __name__ == "__main__":
    main()
