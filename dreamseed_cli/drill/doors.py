"""From options to drills: one or several, one after another, with their pages; and what the schedule asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dreamseed_cli.backup.lock import only_one
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.drill.due import Standing, standing
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.run import Company, run_drill
from dreamseed_cli.drill.scenarios.all import choose
from dreamseed_cli.drill.stage import Wish
from dreamseed_cli.profile.drill import Drill


@dataclass(frozen=True, slots=True)
class Played:
    """A drill that was made, and its page."""

    record: DrillRecord
    page: Path


def play(names: Sequence[str], wish: Wish, company: Company) -> list[Played]:
    """Rehearse one scenario after another; each is kept whatever the next does. Raises AlreadyRunning."""
    scenarios = [choose(name) for name in names]
    played = []
    with only_one(company.folder.root, "drill"):
        _settle(company.folder)
        for scenario in scenarios:
            record = run_drill(scenario, wish, company)
            played.append(Played(record, write_page(record, company.folder)))
    return played


def settle(folder: Folder) -> None:
    """Record a drill that was killed as failed: it could not. Raises AlreadyRunning while one is at work."""
    with only_one(folder.root, "drill"):
        _settle(folder)


def _settle(folder: Folder) -> None:
    killed = folder.settle()
    if killed is not None:
        write_page(killed, folder)


def write_page(record: DrillRecord, folder: Folder) -> Path:
    """The record's page beside it, with the trend so far."""
    from dreamseed_cli.drill.report.html import html_page

    path = folder.root / f"{record.id}.html"
    write_atomically(path, html_page(record, folder.read().of(record.scenario)).encode())
    return path


def standings(folder: Folder, settings: Drill, since: datetime | None, now: datetime) -> list[Standing]:
    """How each scenario that the schedule rehearses stands."""
    history = folder.read()
    return [standing(name, history.of(name), settings, since, now) for name in settings.scenarios]


def alarm(found: Sequence[Standing]) -> str | None:
    """What somebody must be told of all of them; None: all is well."""
    texts = [one.alarm for one in found if one.alarm is not None]
    return "; ".join(texts) or None
