"""The whole machine is gone: a clean place gets the database back from the bucket and the key alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.verify import choose
from dreamseed_cli.backup.wal_names import parse_lsn
from dreamseed_cli.core.counting import counted
from dreamseed_cli.drill.bringing import Brought
from dreamseed_cli.drill.clean_place import CleanPlace
from dreamseed_cli.drill.cluster import Build
from dreamseed_cli.drill.extrapolate import Sizes
from dreamseed_cli.drill.held import Held
from dreamseed_cli.drill.noting import noted, own_moment, stored_beat
from dreamseed_cli.drill.proving import Known, prove
from dreamseed_cli.drill.stage import Stage
from dreamseed_cli.drill.timeline import Step
from dreamseed_cli.profile.drill import ScenarioName


@dataclass(frozen=True, slots=True)
class LostHost:
    """See the module."""

    name: ClassVar[ScenarioName] = "lost-host"
    title: ClassVar[str] = "the whole machine"

    def play(self, stage: Stage) -> None:
        with noted(stage) as before:
            _bring_back(stage, before)


def _bring_back(stage: Stage, before: Known) -> None:
    manifest = _newest(stage)
    build = Build.of(manifest)
    held = Held.look(stage.wish.settings)
    loss = stage.mark(Step.LOSS, "nothing of this host is used from here on but the key")
    place = CleanPlace.make(stage, held)
    begun = stage.clock.seconds()
    data = stage.scratch / "clean" / "data"
    physical = manifest.identity.kind is Kind.PHYSICAL
    answer = place.physical(data) if physical else place.logical(data, build)
    stage.mark(Step.RESTORED, f"{answer['id']} by a process that had {', '.join(place.given)}")
    restored_s = stage.clock.seconds() - begun
    brought = _brought(answer, data, build)
    prove(stage, brought, before, [stored_beat(stage.wish.settings, brought, loss.at), own_moment(manifest)])
    answered = next(event for event in stage.events if event.step is Step.ANSWERED)
    wal_bytes = 0 if manifest.wal is None else held.wal_bytes(manifest.wal, brought.lsn)
    rest_s = answered.at_s - loss.at_s - restored_s
    stage.sizes = Sizes(manifest.stored_bytes, manifest.plain_bytes, restored_s, rest_s, wal_bytes)
    stage.notes.append(f"The clean place was given: {', '.join(place.given)}, and this program.")
    stage.notes.append(place.hidden.words)
    objects = counted(len(held.sizes), "object")
    stage.notes.append(f"It was given the {objects} that the store held at the loss, and none since.")


def _newest(stage: Stage) -> Manifest:
    """Only to know which programs it needs: the clean place chooses by itself."""
    store = stage.wish.settings.open()
    try:
        manifest = choose(read_catalog(store), None).manifest
    finally:
        store.close()
    stage.backup_id = manifest.identity.backup_id
    stage.database_bytes = stage.database_bytes or manifest.plain_bytes
    return manifest


def _brought(answer: dict[str, Any], data: Path, build: Build) -> Brought:
    if "reached_lsn" not in answer:
        return Brought(data, build, tables=answer["tables"])
    commit = answer["last_commit"]
    return Brought(
        data,
        build,
        lsn=parse_lsn(answer["reached_lsn"]),
        timeline=int(answer["timeline"]),
        last_commit=datetime.fromisoformat(commit) if commit else None,
        compared=answer["files"],
        tables=answer["tables"],
        doubt=answer["doubt"] or "",
    )
