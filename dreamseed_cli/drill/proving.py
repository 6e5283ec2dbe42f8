"""The end of every drill: the first verified answer of what came back, then the whole comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dreamseed_cli.backup.logical.server import connect
from dreamseed_cli.backup.physical.verify import Verified
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.drill.bringing import Brought
from dreamseed_cli.drill.checks import amcheck, page_checksums
from dreamseed_cli.drill.cluster import running
from dreamseed_cli.drill.content import (
    DIGESTS,
    NO_TABLE,
    ROW_COUNTS,
    Content,
    checks_of,
    read_content,
    read_schema,
    schema_difference,
)
from dreamseed_cli.drill.heartbeats import newest_row
from dreamseed_cli.drill.stage import Stage
from dreamseed_cli.drill.timeline import Check, Heartbeat, Step

OWN_DIGESTS: Final = "the backup's own digests"
_HELPS: Final = (
    "Rehearse beside the source while it is quiet, and let backups note what they hold (backup.digests)."
)
_OF_CONTENT: Final = (ROW_COUNTS, DIGESTS, OWN_DIGESTS)


@dataclass(frozen=True, slots=True)
class Known:
    """What the source was before the loss. content None: there was no source to ask. heartbeats: in which
    database they lie. again: reads the source once more, if something differs.
    """

    content: Content | None
    heartbeats: str
    again: Callable[[], Content]


def prove(stage: Stage, brought: Brought, known: Known, others: list[Heartbeat | None]) -> None:
    """Start a server on what came back, ask it, compare everything, look inside its files.

    others: moments that are proven by other means than a row.
    """
    complete = _complete(brought, known)
    with running(brought.data, brought.build) as server:
        row = first_answer(stage, server.dsn(), known, complete=complete)
        commit = brought.last_commit
        stage.prove([row, *others, Heartbeat(commit, "the last commit replayed") if commit else None])
        found = compare(stage, server.dsn(), known, complete=complete)
        stage.checks.append(amcheck(server.dsn()))
    stage.checks.append(page_checksums(brought.data, brought.build.programs))
    stage.checks.append(_own_digests(brought, found))
    prove_compared(stage, known, found)
    if brought.compared:
        stage.checks.append(_files(brought))
    if brought.doubt:
        stage.notes.append(brought.doubt)
    stage.mark(
        Step.COMPARED, f"{counted(sum(check.passed is True for check in stage.checks), 'check')} passed"
    )


def first_answer(stage: Stage, dsn: str, known: Known, *, complete: bool) -> Heartbeat | None:
    """The first query whose answer is checked: the shape of every database against the source's. From here
    on somebody could work with it. FailedError if it is another.

    complete: see compare_tables; what is older than the source may have another shape, which is told.
    """
    shape = read_schema(dsn)
    with connect(dsn, known.heartbeats if known.heartbeats in shape else None) as connection:
        row = newest_row(connection, stage.id)
    verified = _verified(shape, known, complete=complete)
    found = f"{counted(_definitions(shape), 'definition')} in {counted(len(shape), 'database')}"
    stage.mark(Step.ANSWERED, f"{found}, {verified}")
    return row


def _verified(shape: Mapping[str, tuple[str, ...]], known: Known, *, complete: bool) -> str:
    """What the shape was compared with. FailedError if it should be the source's and is not."""
    if known.content is None:
        return "and no source to compare with"
    difference = schema_difference(known.content.schema, shape)
    if difference is None:
        return "as in the source"
    if not complete:
        return "older than the source's"
    raise FailedError(
        f"the schema is not the source's: {difference}",
        place="the first answer",
        remedy="If the source's schema was changed during the drill, rehearse again.",
    )


def compare(stage: Stage, dsn: str, known: Known, *, complete: bool) -> Content:
    """Everything that the source held against everything that is here, which is returned. See checks_of."""
    found = read_content(dsn)
    if known.content is None:
        detail = f"{found.size} read through; no source to compare with"
        stage.check(DIGESTS, None, detail)
    else:
        stage.checks += checks_of(known.content, found, known.again, complete=complete)
    return found


def prove_compared(stage: Stage, known: Known, found: Content) -> None:
    """Fails a drill that compared the content of none of its tables, with the source or with what the backup
    noted: it shows that a server starts, not that the data is there. Without any table there is nothing to
    show, which is said.
    """
    tables = len(found.tables.keys() | (known.content.tables.keys() if known.content else set()))
    compared = [one.name for one in stage.checks if one.name in _OF_CONTENT and one.passed is not None]
    name = "content compared"
    if not tables:
        stage.check(name, None, NO_TABLE)
        stage.notes.append("There was no table in it: nothing is shown about data.")
    elif compared:
        stage.check(name, True, f"by {', '.join(compared)}")
    else:
        stage.check(
            name,
            False,
            f"of {counted(tables, 'table')}, none: nobody knows whether the data is what it was. {_HELPS}",
        )


def _complete(brought: Brought, known: Known) -> bool:
    """Whether recovery passed the moment at which the source was read."""
    return known.content is not None and brought.lsn >= known.content.lsn


def _definitions(shape: Mapping[str, tuple[str, ...]]) -> int:
    return sum(len(lines) for lines in shape.values())


def _own_digests(brought: Brought, found: Content) -> Check:
    """What the restore itself compared: it fails if a table differs. It needs no source to ask.

    found: what is here; without a table of anybody's, equal digests are those of nothing.
    """
    if brought.tables is None:
        said = "not compared: the backup noted none, or recovery did not pass their moment"
        return Check(OWN_DIGESTS, None, said)
    if not found.tables:
        return Check(OWN_DIGESTS, None, NO_TABLE)
    said = f"{counted(brought.tables, 'table')} equal to what the backup noted when it was made"
    return Check(OWN_DIGESTS, True, said)


def _files(brought: Brought) -> Check:
    """pg_verifybackup's part: backup.physical.verify has the story."""
    detail = f"{brought.compared} compared with the server's own list; every part's SHA-256 before that"
    if brought.compared in {Verified.CONTENT, Verified.SIZES}:
        detail += "; this PostgreSQL's pg_verifybackup cannot start"
    return Check("restored files", True, detail)
