"""`dreamseed db tune`: a server's settings from its box, beside the document's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.database_choice import DsnEnvOption, ExternalProfileOption, chosen_dsn
from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from dreamseed_cli.database.tuning.box import Box, Storage
    from dreamseed_cli.database.tuning.differences import Difference
    from dreamseed_cli.estimates.schema import Book


def tune(
    memory_gib: Annotated[
        float | None,
        typer.Option(min=0.25, help="Memory for PostgreSQL alone. Default: half of this machine's."),
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Default: this machine's.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="nvme, ssd or hdd. Default: what the data directory lies on.")
    ] = None,
    connections: Annotated[
        int | None,
        typer.Option(min=1, help="The most at the same time. Default: the server's max_connections."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Set what differs, with ALTER SYSTEM.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what --apply set.")] = False,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Show the settings that this box gives PostgreSQL, beside §E1's and the server's own.

    Changes nothing without --apply, and --undo takes that back. Exit code 1 if the server differs.
    """
    from dreamseed_cli.core.errors import UsageError
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.database.settings import wanted_settings
    from dreamseed_cli.database.tuning.apply import apply as set_all
    from dreamseed_cli.database.tuning.apply import take_back, tuned
    from dreamseed_cli.database.tuning.ask import differences, kind_of_storage
    from dreamseed_cli.estimates.load import load_book

    if apply and undo:
        raise UsageError("--apply and --undo are opposites", remedy="Leave one of them out.")
    kind = kind_of_storage(storage)
    dsn = chosen_dsn(dsn_env, profile, state_dir)
    way_back = StateDir.locate(state_dir).root / "db-tune.json"
    with tuned(dsn) as connection:
        if undo:
            return _undone(take_back(connection, way_back))
        box = _box(connection, memory_gib, cores, kind, connections)
        book = load_book()
        found = differences(connection, box, wanted_settings(book))
        if apply:
            set_all(
                connection, {one.derived.name: one.derived.text for one in found if one.appliable}, way_back
            )
        return _result(box, book, found, applied=apply)


def _box(
    connection: Any,
    memory_gib: float | None,
    cores: int | None,
    kind: Storage | None,
    connections: int | None,
) -> Box:
    """The server's box: as told, else as this machine is if the server runs on it."""
    from dreamseed_cli.database.tuning.ask import box_of, is_here

    if not is_here(connection) and None in (memory_gib, cores, kind):
        from dreamseed_cli.core.errors import UsageError

        raise UsageError(
            "the server runs on another machine, which this one cannot look at",
            place=connection.info.host,
            remedy="Give its --memory-gib, --cores and --storage, or run this there.",
        )
    return box_of(connection, memory_gib, cores, kind, connections)


def _result(box: Box, book: Book, found: tuple[Difference, ...], *, applied: bool) -> Result:
    from dreamseed_cli.database.tuning.view import Document, data, view

    document = Document.of(book)
    met = applied or not any(one.appliable for one in found)
    return Result(
        data(box, document, found, applied=applied),
        view=view(box, document, found, applied=applied),
        target_met=met,
    )


def _undone(before: Mapping[str, str | None]) -> Result:
    lines: list[RenderableType] = [
        f"{name}: {'reset to what the configuration files say' if value is None else f'{value} again'}"
        for name, value in before.items()
    ]
    return Result({"undone": dict(before)}, view=[*lines, "Settings that need a restart hold after it."])
