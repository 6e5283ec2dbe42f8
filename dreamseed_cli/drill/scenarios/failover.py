"""The primary dies beside a streaming standby: §E3's four steps, there and back, with reads going on.

A real standby on this machine stands in for the one in the cloud; what Cloud SQL itself needs is rendered as
a checklist (cloud_sql.py).
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from dreamseed_cli.backup.logical.server import Connection, connect, value
from dreamseed_cli.backup.physical.recovery import PrivateServer
from dreamseed_cli.backup.producer import libpq_environment, run_program
from dreamseed_cli.database.standby.failback import failback
from dreamseed_cli.database.standby.pair import Fence, Pair, until
from dreamseed_cli.database.standby.promote import promote
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.database.standby.watch import Mode
from dreamseed_cli.drill.checks import amcheck
from dreamseed_cli.drill.cloud_sql import LIMITS
from dreamseed_cli.drill.cluster import Build, kill, running, wipe
from dreamseed_cli.drill.content import checks_of, read_content
from dreamseed_cli.drill.copying import Copy, running_copy
from dreamseed_cli.drill.heartbeats import beating
from dreamseed_cli.drill.proving import Known, compare, first_answer, prove_compared
from dreamseed_cli.drill.stage import Stage
from dreamseed_cli.drill.timeline import Step
from dreamseed_cli.drill.watching import watching
from dreamseed_cli.profile.drill import ScenarioName

_STREAMING_S: Final = 60.0
_SERVICE: Final = "dreamseed-drill"
_STREAMING: Final = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
_ROWS: Final = "SELECT count(*) FROM dreamseed_drill.heartbeats"


@dataclass(frozen=True, slots=True)
class Failover:
    """See the module. It happens to a copy."""

    name: ClassVar[ScenarioName] = "failover"
    title: ClassVar[str] = "the primary, beside a standby"

    def play(self, stage: Stage) -> None:
        with running_copy(stage) as copy:
            content = read_content(copy.server.dsn())
            known = Known(content, "postgres", lambda: content)
            standby_data = stage.scratch / "standby"
            follow(copy.server, standby_data, copy.build)
            with running(standby_data, copy.build, wait=False) as standby:
                _away(stage, copy, standby, known)
                _home(stage, copy, standby)
        stage.notes.append("It happened to a copy of the database; the standby ran on this machine.")
        stage.notes += LIMITS


def follow(server: PrivateServer, data: Path, build: Build) -> None:
    """A standby of `server` in a new folder: pg_basebackup and its recovery settings. ProducerFailed."""
    argv: list[str | Path] = [build.programs("pg_basebackup"), f"--pgdata={data}", "--write-recovery-conf"]
    # It lives as long as the drill: nothing waits for the disk.
    argv += ["--wal-method=stream", "--checkpoint=fast", "--no-password", "--no-sync"]
    run_program(argv, environment={**os.environ, **libpq_environment(server.dsn())})


def _away(stage: Stage, copy: Copy, standby: PrivateServer, known: Known) -> None:
    """Steps 1 to 3: noticed, read-only by itself, promoted by a person's command."""
    pace = stage.wish.pace
    primary = copy.server
    file = ServiceFile(stage.scratch / "pg_service.conf", _SERVICE)
    pair = Pair(primary.dsn(), standby.dsn())
    _streaming(primary)
    with watching(pair, file, stage.wish.standby, stage.say):
        client = Client(copy.build, file)
        until(
            lambda: file.mode() is Mode.PRIMARY and client.reads() is None, _STREAMING_S, "the first answer"
        )
        with beating(primary.dsn(), stage.id, pace.beat_s, stage.clock.now):
            stage.mark(Step.HEARTBEAT, f"one every {pace.beat_s:g} s, in the copy")
            stage.surprise()
            stage.mark(Step.LOSS, "kill -9 to the primary")
            kill(primary)
        until(
            lambda: file.mode() is Mode.REPLICA, 10 * stage.wish.standby.down_s + _STREAMING_S, "noticing it"
        )
        stage.mark(Step.DETECTED, "away without a break for the profile's down_s: clients go to the standby")
        until(lambda: client.reads() is None, _STREAMING_S, "the first read from the standby")
        stage.mark(Step.READ_ONLY, "a client reads through the service file, unchanged")
        refused = client.writes()
        stage.check(
            "read-only meanwhile", refused is not None, f"a write is refused: {refused or 'it was taken'}"
        )
        # Nobody else could: the drill itself has just ended all of its processes, and will not start it.
        done = promote(pair, Fence(vouched=True), file, stage.clock.now())
        stage.mark(Step.PROMOTED, f"{done.fenced}; timeline {done.server.timeline if done.server else '?'}")
    row = first_answer(stage, standby.dsn(), known, complete=True)
    written = client.writes()
    stage.check("writes after promotion", written is None, written or "a client wrote, unchanged")
    stage.prove([row])
    prove_compared(stage, known, compare(stage, standby.dsn(), known, complete=True))
    stage.checks.append(amcheck(standby.dsn()))
    stage.mark(Step.COMPARED)


def _home(stage: Stage, copy: Copy, standby: PrivateServer) -> None:
    """Step 4: the first server is made anew as a standby, and takes over again with nothing lost."""
    data = copy.server.data
    wipe(data)
    follow(standby, data, copy.build)
    file = ServiceFile(stage.scratch / "pg_service.conf", _SERVICE)
    with running(data, copy.build, wait=False) as home:
        _streaming(standby)
        before = read_content(standby.dsn())
        with beating(standby.dsn(), stage.id, stage.wish.pace.beat_s, stage.clock.now):
            back = failback(Pair(home.dsn(), standby.dsn()), Fence(), file, stage.clock.now())
        stage.mark(Step.RETURNED, f"at {back.caught_up_to}, timeline {back.server.timeline}")
        written = Client(copy.build, file).writes()
        stage.check("writes back home", written is None, written or "a client wrote, unchanged")
        stage.checks += [
            one for one in checks_of(before, read_content(home.dsn()), lambda: before, complete=True)
            if one.passed is False
        ]  # fmt: skip
        with connect(home.dsn()) as here, connect(standby.dsn()) as there:
            lost = _rows(there) - _rows(here)
        # The client's write back home is one more here.
        stage.check("acknowledged writes", lost < 0, f"{max(lost + 1, 0)} lost on the way back")


def _rows(connection: Connection) -> int:
    return int(value(connection, _ROWS))


def _streaming(server: PrivateServer) -> None:
    """Wait until somebody follows it."""

    def followed() -> bool:
        with connect(server.dsn()) as connection:
            return bool(value(connection, _STREAMING))

    until(followed, _STREAMING_S, "the standby's first connection")


@dataclass(frozen=True, slots=True)
class Client:
    """Some program of the user's: it knows the service's name, and nothing of two servers."""

    build: Build
    file: ServiceFile

    def reads(self) -> str | None:
        """What is wrong; None if it is answered."""
        return self._ask("SELECT count(*) FROM pg_class")

    def writes(self) -> str | None:
        return self._ask("INSERT INTO dreamseed_drill.heartbeats (drill, at) VALUES ('a client', now())")

    def _ask(self, query: str) -> str | None:
        argv = [str(self.build.programs("psql")), "-XAtqw", "-c", query, self.file.dsn()]
        environment = {**os.environ, "PGSERVICEFILE": str(self.file.path), "PGCONNECT_TIMEOUT": "5"}
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, errors="replace", env=environment
        )
        return None if done.returncode == 0 else done.stderr.strip().splitlines()[0]
