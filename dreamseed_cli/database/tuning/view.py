"""The result of `db tune` for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dreamseed_cli.core.result import Figure, Provenance
from dreamseed_cli.database.tuning.box import Box
from dreamseed_cli.database.tuning.derive import GIB, worst_case_bytes
from dreamseed_cli.database.tuning.differences import Difference
from dreamseed_cli.estimates.schema import Book

if TYPE_CHECKING:
    from rich.console import RenderableType

_BOX, _CONNECTIONS = "e1-box", "e1-connections"


@dataclass(frozen=True, slots=True)
class Document:
    """§E1's box: its memory in GB, and its connections."""

    memory_gb: float
    connections: int

    @classmethod
    def of(cls, book: Book) -> Document:
        rows = {one.id: one for one in book}
        return cls(rows[_BOX].fields["ram_gb"], int(rows[_CONNECTIONS].middle))


def data(box: Box, document: Document, found: Sequence[Difference], *, applied: bool) -> dict[str, Any]:
    """All of it, sizes in bytes."""
    return {
        "box": {
            "memory_bytes": box.memory_bytes,
            "cores": box.cores,
            "storage": box.storage.value,
            "connections": box.connections,
        },
        "settings": [_row(one) for one in found],
        "at_worst_gib": Figure(_worst_gib(box, found), "GiB", Provenance.COMPUTED),
        "document_at_worst_gib": Figure(_document_worst_gib(document, found), "GiB", Provenance.COMPUTED),
        "applied": applied,
    }


def view(box: Box, document: Document, found: Sequence[Difference], *, applied: bool) -> list[RenderableType]:
    """A table, the reasons of what differs, and the memory at worst."""
    from rich.table import Table

    title = (
        f"{box.memory_bytes / GIB:.3g} GiB for PostgreSQL, {box.cores} cores, {box.storage.value}, "
        f"{box.connections} connections"
    )
    table = Table(box=None, header_style="dim", title=title, title_justify="left")
    for column in ("setting", "this box", "§E1", "server", "to change it"):
        table.add_column(column, no_wrap=column == "setting")
    for one in found:
        table.add_row(
            one.derived.name,
            one.derived.text,
            one.document.said if one.document else "",
            one.server.shown if one.server else "",
            one.change or "",
            style="" if one.differs else "dim",
        )
    return [table, *_reasons(found), *_memory(box, document, found), *_last(found, applied=applied)]


def _row(one: Difference) -> dict[str, Any]:
    return {
        "name": one.derived.name,
        "derived": one.derived.text,
        "why": one.derived.why,
        "document": one.document.said if one.document else None,
        "server": one.server.shown if one.server else None,
        "differs": one.differs,
        "change": one.change,
    }


def _reasons(found: Sequence[Difference]) -> Iterator[str]:
    yield from (f"  {one.derived.name}: {one.derived.why}" for one in found if one.differs)


def _memory(box: Box, document: Document, found: Sequence[Difference]) -> Iterator[str]:
    yield (
        f"At worst (computed) these take {_worst_gib(box, found):.3g} GiB with {box.connections} connections;"
        f" §E1's would take {_document_worst_gib(document, found):.3g} of its {document.memory_gb:.3g} GB"
        f" with its {document.connections:,}."
    )


def _last(found: Sequence[Difference], *, applied: bool) -> Iterator[str]:
    chosen = [one for one in found if one.appliable]
    if not chosen:
        yield "The server has all of them that can be set."
        return
    restart = ", ".join(one.derived.name for one in chosen if one.change == "restart")
    if applied:
        yield f"Set. {f'After a restart of the server: {restart}. ' if restart else ''}Back with --undo."
    else:
        yield f"To change: {len(chosen)}. Set them with --apply" + (
            f"; a restart is needed for {restart}." if restart else "; no restart is needed."
        )


def _worst_gib(box: Box, found: Sequence[Difference]) -> float:
    return worst_case_bytes({one.derived.name: one.derived.plain for one in found}, box.connections) / GIB


def _document_worst_gib(document: Document, found: Sequence[Difference]) -> float:
    values = {one.document.name: one.document.plain for one in found if one.document is not None}
    return worst_case_bytes(values, document.connections) / GIB
