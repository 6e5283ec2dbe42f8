"""One drill from its beginning to its signed record, whatever happens in between."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg

from dreamseed_cli import __version__
from dreamseed_cli.backup import ending
from dreamseed_cli.backup.names import stamp
from dreamseed_cli.core.errors import DreamseedError, FailedError, InterruptedByUser
from dreamseed_cli.drill.extrapolate import extrapolate
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.drill.leftovers import scratch_folder
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.room import check_room
from dreamseed_cli.drill.stage import Clock, Scenario, Stage, Wish
from dreamseed_cli.drill.timeline import Outcome, Step, Targets, judge

UNFINISHED: Final = "it began and never ended: it was killed, or the machine went down"


class DrillFailed(FailedError):
    """The database did not come back, or not as it was; the record of it is kept."""

    kind = "drill_failed"


@dataclass(frozen=True, slots=True)
class Company:
    """What surrounds a drill. scratch: where its copies lie. link_mbps: extrapolate to that link."""

    targets: Targets
    folder: Folder
    scratch: Path
    link_mbps: float | None = None
    clock: Clock = field(default_factory=Clock)
    say: Callable[[str], None] = lambda _: None


def run_drill(scenario: Scenario, wish: Wish, company: Company) -> DrillRecord:
    """Play it, clean up, judge it, keep the record. Its failure is in the record, too; what is missing before
    it begins and an interruption are raised after cleaning up, and recorded as failures. Folder.settle
    makes a failure of one that was killed.
    """
    clock = company.clock
    began = clock.now()
    drill_id = f"{stamp(began)}-{scenario.name}-{secrets.token_hex(4)}"
    failure: str | None = None
    with scratch_folder(company.scratch) as scratch:
        stage = Stage(drill_id, wish, scratch, clock, company.say)
        stage.mark(Step.BEGUN, scenario.title)
        company.folder.begin(_record(scenario, stage, company, began, UNFINISHED))
        try:
            with ending.as_interruption():
                check_room(wish.settings, scratch)
                scenario.play(stage)
        except KeyboardInterrupt:
            _keep(scenario, stage, company, began, str(InterruptedByUser("interrupted")))
            raise
        except (DreamseedError, psycopg.Error) as error:
            failure = str(error).strip()
        except Exception as error:
            _keep(scenario, stage, company, began, f"unexpected {type(error).__name__}: {error}")
            raise
    stage.mark(Step.CLEANED)
    return _keep(scenario, stage, company, began, failure)


def raise_failure(record: DrillRecord) -> None:
    """DrillFailed for a record of one that failed."""
    if record.outcome is Outcome.FAILED:
        raise DrillFailed(
            "; ".join(record.misses).removesuffix("."),
            place=f"drill {record.scenario}",
            remedy=f"See dreamseed drill show {record.id}: this disaster would not have ended well.",
        )


def _keep(
    scenario: Scenario, stage: Stage, company: Company, began: datetime, failure: str | None
) -> DrillRecord:
    return company.folder.add(_record(scenario, stage, company, began, failure))


def _record(
    scenario: Scenario, stage: Stage, company: Company, began: datetime, failure: str | None
) -> DrillRecord:
    """What is known of it by now."""
    verdict = judge(stage.events, stage.recovered, stage.checks, company.targets, failure)
    found = None
    if company.link_mbps is not None and stage.sizes is not None:
        found = extrapolate(stage.sizes, stage.database_bytes, company.link_mbps)
    return DrillRecord(
        id=stage.id,
        scenario=scenario.name,
        began=began,
        ended=stage.clock.now(),
        host=socket.gethostname() or "unknown",
        dreamseed=__version__,
        store=stage.wish.settings.store_url,
        backup_id=stage.backup_id,
        database_bytes=stage.database_bytes,
        outcome=verdict.outcome,
        rpo_s=verdict.rpo_s,
        rto_s=verdict.rto_s,
        misses=verdict.misses,
        targets=company.targets,
        recovered=stage.recovered,
        events=tuple(stage.events),
        checks=tuple(stage.checks),
        notes=tuple(stage.notes),
        extrapolated=found,
    )
