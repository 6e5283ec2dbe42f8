"""The newest backup is damaged in the store: it must be refused by name, and the one before it taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from dreamseed_cli.backup.catalog import Entry, read_catalog
from dreamseed_cli.backup.cold import copy_backup
from dreamseed_cli.backup.names import HEARTBEATS, WAL, Kind, part_name
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.recover import BackupDamaged, Recovery
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.drill.bringing import Brought, bring, wal_fetch
from dreamseed_cli.drill.noting import noted, own_moment, stored_beat
from dreamseed_cli.drill.proving import Known, prove
from dreamseed_cli.drill.stage import Stage
from dreamseed_cli.drill.timeline import Step
from dreamseed_cli.profile.drill import ScenarioName


@dataclass(frozen=True, slots=True)
class CorruptBackup:
    """See the module. It happens in a copy of the store; the store itself is only read."""

    name: ClassVar[ScenarioName] = "corrupt-backup"
    title: ClassVar[str] = "the newest backup, by a flipped bit"

    def play(self, stage: Stage) -> None:
        with noted(stage) as before:
            _take_the_older(stage, before)


def _take_the_older(stage: Stage, before: Known) -> None:
    settings, newest, older = _copied(stage)
    damaged = _flip(stage.scratch / "store", newest)
    stage.mark(Step.PREPARED, f"two backups and the WAL copied, one bit of {damaged} flipped")
    loss = stage.mark(Step.LOSS, f"the database is gone, and {newest.id} is damaged")
    _refused(settings, stage, newest, older)
    recovery = Recovery.look(settings, stage.wish.key_file, older.id, Goal())
    stage.mark(Step.CHOSEN, f"{older.id}, the one before")
    brought = _bring(recovery, stage.scratch / "older", settings, stage)
    stage.backup_id = older.id
    stage.mark(Step.RESTORED, f"{older.id}, and what the archive has after it")
    prove(stage, brought, before, [stored_beat(settings, brought, loss.at), own_moment(older.manifest)])
    stage.notes.append("It happened in a copy of the store on this disk: the link's time is not in it.")


def _copied(stage: Stage) -> tuple[Settings, Entry, Entry]:
    """The two newest backups of one kind, the WAL and the heartbeats, in a folder of the drill's own."""
    wish = stage.wish
    folder = stage.scratch / "store"
    table = wish.settings.table.model_copy(update={"store": f"local:{folder}", "cold": None})
    settings = replace(wish.settings, table=table)
    to, store = settings.open(create=True), wish.settings.open()
    try:
        backups = read_catalog(store).backups
        kind = backups[0].manifest.identity.kind if backups else Kind.PHYSICAL
        two = [one for one in backups if one.manifest.identity.kind is kind][:2]
        if len(two) < 2:
            raise MissingError(
                f"there are not two good {kind.value} backups: nothing would be left if one were damaged",
                place=store.name,
                remedy=f"Make another: dreamseed backup --kind {kind.value}.",
            )
        for entry in two:
            copy_backup(store, to, entry.manifest)
        for prefix in (WAL, HEARTBEATS):
            for stored in store.list(prefix):
                to.put(stored.name, store.get(stored.name))
    finally:
        store.close()
        to.close()
    return settings, two[0], two[1]


def _flip(folder: Path, entry: Entry) -> str:
    """One bit in the middle of the backup's largest part; the part's name."""
    largest = max(entry.manifest.parts, key=lambda part: part.stored_size)
    name = part_name(entry.id, largest.index)
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    return name


def _refused(settings: Settings, stage: Stage, newest: Entry, older: Entry) -> None:
    """A restore of the newest must end with its damage and the older one's name. FailedError if not."""
    recovery = Recovery.look(settings, stage.wish.key_file, newest.id, Goal())
    try:
        _bring(recovery, stage.scratch / "damaged", settings, stage)
    except BackupDamaged as error:
        stage.mark(Step.REFUSED, str(error))
        said = older.id in error.remedy
        stage.check("the damaged one is refused", said, f"{error.place}: {error.cause}; {error.remedy}")
        return
    raise FailedError("a damaged backup was restored as if it were good", place=newest.id)


def _bring(recovery: Recovery, data: Path, settings: Settings, stage: Stage) -> Brought:
    wish = stage.wish
    return bring(recovery, data, wal_fetch(settings, settings.store_url, wish.key_file, ()), stage.say)
