"""The database server dies and its disk is empty: back in the same place, from the archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.drill.cluster import kill, wipe
from dreamseed_cli.drill.content import read_content
from dreamseed_cli.drill.copying import running_copy
from dreamseed_cli.drill.heartbeats import beating
from dreamseed_cli.drill.noting import stored_beat
from dreamseed_cli.drill.proving import Known, prove
from dreamseed_cli.drill.stage import Stage
from dreamseed_cli.drill.timeline import Step
from dreamseed_cli.profile.drill import ScenarioName


@dataclass(frozen=True, slots=True)
class LostDatabase:
    """See the module. It happens to a copy."""

    name: ClassVar[ScenarioName] = "lost-database"
    title: ClassVar[str] = "the database server and its disk"

    def play(self, stage: Stage) -> None:
        pace = stage.wish.pace
        with running_copy(stage) as copy:
            content = read_content(copy.server.dsn())
            copy.back_up()
            with beating(copy.server.dsn(), stage.id, pace.beat_s, stage.clock.now):
                stage.mark(Step.HEARTBEAT, f"one every {pace.beat_s:g} s, in the copy")
                copy.tick(stage)
                stage.surprise()
                loss = stage.mark(Step.LOSS, "kill -9, and the data folder is gone")
                kill(copy.server)
            data = copy.server.data
            wipe(data)
            brought = copy.bring_back(data, Goal(), stage)
            stage.mark(Step.RESTORED, f"in the same place, up to timeline {brought.timeline}")
            stored = stored_beat(copy.settings, brought, loss.at)
        prove(stage, brought, Known(content, "postgres", lambda: content), [stored])
        stage.notes.append("It happened to a copy of the database, with an archive of its own.")
