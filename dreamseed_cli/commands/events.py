"""`dreamseed events tail`: what became of the last requests, and of every further one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.database_choice import DsnEnvOption, ExternalProfileOption, chosen_dsn
from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from rich.table import Table

    from dreamseed_cli.gateway.events.tail import StoredEvent

events_app = typer.Typer(help="Read the events of requests.", no_args_is_help=True)


@events_app.callback()
def _events() -> None:
    """Read the events of requests."""


@events_app.command("tail")
def tail(
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Begin with this many events.")] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")
    ] = False,
    payload: Annotated[
        bool, typer.Option("--payload", help="Print each event's JSON on one line, as Kafka gets it.")
    ] = False,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Show the last events of requests, oldest first, from the outbox in PostgreSQL.

    Where services.kafka.mode is 'embedded' there are no brokers: the outbox is where events are read, with
    this command. Where it is 'external' the relay publishes them from there. They stay for 7 days.
    """
    from dreamseed_cli.core.errors import UsageError
    from dreamseed_cli.gateway.events.tail import last_events

    if follow and as_json:
        raise UsageError(
            "--follow has no end, --json is one document", remedy="Use --payload for JSON lines without end."
        )
    dsn = chosen_dsn(dsn_env, profile, state_dir)
    if follow:
        _print_forever(dsn, last, payload=payload)
    events = last_events(dsn, last)
    data = {"events": [_data(event) for event in events]}
    return Result(data, view=[event.payload for event in events] if payload else [_table(events)])


def _print_forever(dsn: str, last: int, *, payload: bool) -> None:
    import sys

    from rich.console import Console

    from dreamseed_cli.gateway.events.tail import follow_events

    console = Console(soft_wrap=True, highlight=False)
    for event in follow_events(dsn, last):
        if payload:
            sys.stdout.write(event.payload + "\n")
            sys.stdout.flush()
        else:
            console.print("  ".join(_cells(event)), markup=False)


def _data(event: StoredEvent) -> dict[str, Any]:
    import json

    return {
        "sequence": event.sequence,
        "stored_at": event.created_at.isoformat(),
        "published_at": event.published_at.isoformat() if event.published_at else None,
        "event": json.loads(event.payload),
    }


def _table(events: list[StoredEvent]) -> Table:
    from rich.table import Table
    from rich.text import Text

    # Two lines an event, which 80 columns hold whole.
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("arrived (UTC)\ntook", "outcome\npriority", "workload\nuser", "tokens", "on Kafka"):
        table.add_column(heading, overflow="fold")
    for event in events:
        arrived, outcome, priority, workload, user, tokens, took, on_kafka = _cells(event)
        paired = (f"{arrived}\n{took}", f"{outcome}\n{priority}", f"{workload}\n{user}")
        table.add_row(*map(Text, (*paired, tokens, on_kafka)))
    return table


def _cells(event: StoredEvent) -> tuple[str, ...]:
    """One event for people. Control characters of a user's id stay out of the terminal."""
    import json
    from datetime import UTC, datetime

    told = json.loads(event.payload)
    outcome = f"{told['outcome']} ({told['reason']})" if told.get("reason") else told["outcome"]
    if told.get("count", 1) > 1:
        outcome += f" x {told['count']}"
    user = "".join(character if character.isprintable() else "�" for character in told["user_id"])
    return (
        f"{datetime.fromtimestamp(told['arrived_at'], UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3],
        outcome,
        told["priority"],
        told["workload"],
        user,
        f"{told['prompt_tokens'] or 0}+{told['completion_tokens'] or 0}",
        f"{told['duration_s']:.2f} s{' (simulated)' if told['simulated'] else ''}",
        "yes" if event.published_at else "no",
    )
