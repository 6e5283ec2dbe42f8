"""A deploy destroys a table: back to the moment before it, while the server itself is well."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from psycopg import sql

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.digests import list_relations
from dreamseed_cli.backup.logical.server import connect, read_server, value
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.drill.content import read_content
from dreamseed_cli.drill.copying import Copy, running_copy
from dreamseed_cli.drill.heartbeats import SCHEMA, beating
from dreamseed_cli.drill.proving import Known, prove
from dreamseed_cli.drill.stage import Stage
from dreamseed_cli.drill.timeline import Step
from dreamseed_cli.profile.drill import ScenarioName

_APART_S: Final = 0.05
"""Between the moment to go back to and the statement: recovery tells moments apart by commits."""


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What the statement hit, and the last moment before it, by the server's own clock."""

    database: str
    table: str
    before: datetime


@dataclass(frozen=True, slots=True)
class BadDeploy:
    """See the module. It happens to a copy."""

    name: ClassVar[ScenarioName] = "bad-deploy"
    title: ClassVar[str] = "a table, by a statement that should not have been"

    def play(self, stage: Stage) -> None:
        pace = stage.wish.pace
        with running_copy(stage) as copy:
            content = read_content(copy.server.dsn())
            copy.back_up()
            with beating(copy.server.dsn(), stage.id, pace.beat_s, stage.clock.now):
                stage.mark(Step.HEARTBEAT, f"one every {pace.beat_s:g} s, in the copy")
                stage.surprise()
                ending.pause(2 * pace.beat_s)
                hit = _destroy(copy, stage)
                ending.pause(2 * pace.beat_s)  # work goes on after it; it is given up with it
            copy.tick(stage)
            brought = copy.bring_back(stage.scratch / "before", Goal("time", hit.before), stage)
            stage.mark(Step.RESTORED, f"to {hit.before:%H:%M:%S.%f}, the moment before")
            prove(stage, brought, Known(content, "postgres", lambda: content), [])
            _later(stage, hit)
        stage.notes.append("It happened to a copy of the database, with an archive of its own.")
        stage.notes.append("What was written after the statement is given up with it: copy it over by hand.")


def _destroy(copy: Copy, stage: Stage) -> Destroyed:
    """DROP the largest table there is, with what depends on it."""
    dsn = copy.server.dsn()
    with connect(dsn) as connection:
        names = [database.name for database in read_server(connection).databases]
    for name in names:
        with connect(dsn, name) as connection:
            tables = [
                one for one in list_relations(connection) if one.schema != SCHEMA and not one.materialised
            ]
            if not tables:
                continue
            before = value(connection, "SELECT clock_timestamp()")
            ending.pause(_APART_S)
            stage.mark(Step.LOSS, f"DROP TABLE {tables[0].schema}.{tables[0].name} CASCADE in {name}")
            connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(tables[0].identifier))
            return Destroyed(name, f"{tables[0].schema}.{tables[0].name}", before)
    raise MissingError(
        "the backup holds no table to destroy",
        place=copy.settings.store_url,
        remedy="Back up a real database.",
    )


def _later(stage: Stage, hit: Destroyed) -> None:
    """Nothing from after the moment may be there: then recovery went too far."""
    newest = stage.recovered.at if stage.recovered else None
    exact = newest is None or newest <= hit.before
    stage.check(
        "the moment before",
        exact,
        f"{hit.table} is back, and nothing from after {hit.before:%H:%M:%S.%f}"
        if exact
        else f"recovered up to {newest}, after the statement",
    )
