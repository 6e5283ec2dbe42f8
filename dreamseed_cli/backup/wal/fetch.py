"""`restore_command`: recovery gets a WAL file whole and proven, or it is told the truth about why not.

PostgreSQL takes an exit code from 1 to 125 to mean "there is no such file": recovery then ends, and the
server opens with whatever it has. So that code is given only for a file proven absent. Everything else (a
store that does not answer, damage, a hole in the archive) is above 125, which stops recovery with an error.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.names import WAL, WalObject, wal_name
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.seal import sha256
from dreamseed_cli.backup.store.base import MIB, Store
from dreamseed_cli.backup.store.files import drafted, make_folder, os_errors, write_all
from dreamseed_cli.backup.wal.archive import anything_behind, read_file, the_one
from dreamseed_cli.backup.wal.segment import check_content, segment_bytes, system_of
from dreamseed_cli.backup.wal_names import (
    WalFile,
    WalKind,
    WalSegment,
    parse_wal_file,
)
from dreamseed_cli.core.errors import DreamseedError, FailedError

ABSENT_EXIT: Final = 100
"""The process's exit code for a file proven absent.

`settings.restore_command` makes it 1, and any other but 0 makes it 126: a Python that cannot even start exits
with 1, and must not end a recovery.
"""
STOP_EXIT: Final = 126
"""Above 125: PostgreSQL stops recovery with an error."""

_MOST_HELD: Final = 64 * MIB
_SPOOL_KEPT_S: Final = 86_400.0
"""How long an ended recovery's spool may lie before another one removes it."""


class NotArchived(FailedError):
    """The file is proven absent: nothing in the archive says that it ever was there."""

    kind = "wal_not_archived"


class WalGap(FailedError):
    """The file is missing although later ones are there."""

    kind = "wal_gap"


class ArchiveEmpty(FailedError):
    """There is no WAL at all in this store: an absence that proves nothing."""

    kind = "wal_archive_empty"


@dataclass(frozen=True, slots=True)
class Fetching:
    """Where WAL comes from. spool: a folder with one for each recovery's segments fetched ahead, at most
    `ahead` of them.

    size: wal_segment_size; 0: as the segments that the backup brought along in `pg_wal` have it. system: the
    identifier of the cluster that recovers; None: as `global/pg_control` beside `pg_wal` has it. end: the
    first segment behind the archive's end, as whoever began this recovery saw it: what is missing from there
    on is no gap, whatever a push stored behind it; None: nobody looked.
    """

    store: Store
    identities: Sequence[Identity]
    spool: Path
    threads: int = 4
    ahead: int = 4
    size: int = 0
    system: int | None = None
    end: str | None = None


def run_fetch(name: str, to: Path, source: Fetching, tell: Callable[[str], None]) -> int:
    """What `dreamseed wal fetch %f %p` exits with: 0, ABSENT_EXIT, or STOP_EXIT for anything else at all."""
    try:
        fetch(name, to, source)
    except NotArchived as error:
        tell(str(error))
        return ABSENT_EXIT
    except DreamseedError as error:
        tell(str(error))
        return STOP_EXIT
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves no absence
        tell(f"{type(error).__name__}: {error}")
        return STOP_EXIT
    return 0


def fetch(name: str, to: Path, source: Fetching) -> None:
    """Write the WAL file `name` to `to` (`%p`), and the segments behind it into the spool.

    Raises NotArchived, WalGap, ArchiveEmpty, ObjectConflict (two contents), SealBroken, ObjectCorrupt,
    NotASegment, OtherCluster, WrongKey, and the store's errors. `to` appears whole or not at all.
    """
    if not source.size:
        with os_errors(str(to)):
            source = replace(source, size=segment_bytes(to.absolute().parent))
    source = _of_this_recovery(source, to.absolute().parent)
    file = parse_wal_file(name, source.size)
    data = _from_spool(file, source)
    if data is None:
        data = _from_store(file, to, source)
    with os_errors(str(to)), drafted(to) as draft:
        write_all(draft.file, data)
        draft.place()


def _of_this_recovery(source: Fetching, pg_wal: Path) -> Fetching:
    """Two recoveries, of other clusters or from other stores, have segments of one name: none shares them."""
    own = sha256(f"{source.store.name}\n{pg_wal}".encode())[:16]
    system = source.system if source.system is not None else system_of(pg_wal.parent)
    return replace(source, spool=source.spool / own, system=system)


def _from_store(file: WalFile, to: Path, source: Fetching) -> bytes:
    wanted = the_one(source.store, file)
    if wanted is None:
        raise _absence(file, to, source)
    following = _following(file, source.ahead)
    threads = max(1, min(source.threads, _MOST_HELD // source.size))
    with Pool(threads, "wal-fetch") as pool:
        asked = pool.submit(_proven, wanted, source)
        pool.submit(_tidy, following, source)
        for segment in following:
            pool.submit(_spool, segment, source)
        return ending.result(asked)


def _absence(file: WalFile, to: Path, source: Fetching) -> DreamseedError:
    """What it means that a file is not there."""
    place = f"{source.store.name}: {file.name}"
    if file.kind is WalKind.HISTORY and file.timeline == 1:
        return NotArchived("the first timeline has no history", place=place)
    if _is_past_end(file, source):
        return NotArchived("the archive ended before it when recovery began", place=place)
    behind = anything_behind(source.store, file)
    if behind is not None and not _have_ourselves(file, to, source):
        return WalGap(
            f"it is missing in the archive, which has {behind}: recovery cannot pass",
            place=place,
            remedy="Restore to a moment before it, or take a newer backup as the base.",
        )
    if next(iter(source.store.list(WAL)), None) is None:
        return ArchiveEmpty(
            "no WAL at all is archived here",
            place=source.store.name,
            remedy="Check that this is the store of that cluster.",
        )
    return NotArchived("not archived", place=place)


def _is_past_end(file: WalFile, source: Fetching) -> bool:
    if source.end is None or file.segment is None:
        return False
    end = WalSegment.parse(source.end, source.size)
    return file.timeline == end.timeline and file.segment.number >= end.number


def _have_ourselves(file: WalFile, to: Path, source: Fetching) -> bool:
    """Whether the backup brought this segment along in `pg_wal`: PostgreSQL takes it from there on a 1."""
    path = to.parent / file.name
    if file.kind is not WalKind.SEGMENT or not path.is_file() or path.stat().st_size != source.size:
        return False
    try:
        check_content(file, path.read_bytes(), place=str(path), system=source.system)
    except DreamseedError:
        return False
    return True


def _following(file: WalFile, count: int) -> list[WalSegment]:
    """The segments that recovery will ask for next."""
    found: list[WalSegment] = []
    segment = file.segment if file.kind is WalKind.SEGMENT else None
    while segment is not None and len(found) < count:
        segment = segment.next()
        found.append(segment)
    return found


def _proven(found: WalObject, source: Fetching) -> bytes:
    data = read_file(source.store, found, source.identities)
    place = f"{source.store.name}: {wal_name(found.file, found.sha256)}"
    check_content(found.file, data, place=place, system=source.system)
    return data


def _spool(segment: WalSegment, source: Fetching) -> None:
    """Fetch ahead. Whatever is wrong is told when the segment itself is asked for."""
    with suppress(DreamseedError, OSError):
        file = parse_wal_file(segment.name, source.size)
        if _spooled(segment.name, source.spool):
            return
        found = the_one(source.store, file)
        if found is None:
            return
        data = _proven(found, source)
        make_folder(source.spool)
        with drafted(source.spool / f"{segment.name}.{found.sha256}") as draft:
            write_all(draft.file, data)
            draft.path.rename(draft.final)  # without fsync: its hash is checked before it is used


def _from_spool(file: WalFile, source: Fetching) -> bytes | None:
    """The bytes fetched ahead, if they still are what they were, for this cluster."""
    for path in _spooled(file.name, source.spool):
        try:
            data = path.read_bytes()
            path.unlink()
        except OSError:
            continue
        if sha256(data) == path.name.rpartition(".")[2]:
            with suppress(DreamseedError):
                check_content(file, data, place=str(path), system=source.system)
                return data
    return None


def _spooled(name: str, spool: Path) -> list[Path]:
    return sorted(spool.glob(f"{name}.*"))


def _tidy(following: Sequence[WalSegment], source: Fetching) -> None:
    """Throw away what lies in the spool and is not wanted next: recovery jumped elsewhere, or is over."""
    wanted = {segment.name for segment in following}
    with suppress(OSError):
        for entry in os.scandir(source.spool):
            if entry.name.partition(".")[0] not in wanted:
                Path(entry.path).unlink(missing_ok=True)
    with suppress(OSError):
        for entry in os.scandir(source.spool.parent):
            if entry.is_dir() and time.time() - entry.stat().st_mtime > _SPOOL_KEPT_S:
                shutil.rmtree(entry.path, ignore_errors=True)
