"""`dreamseed events tail` reads the outbox of the stack's own database."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
import typer
from event_harness import record
from gateway_harness import settings

from dreamseed_cli.commands.events import events_app
from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError, UsageError
from dreamseed_cli.core.result import Result
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.events.lines import ended_line
from dreamseed_cli.gateway.events.record import Outcome, RequestRecord
from dreamseed_cli.gateway.events.store import RequestStore
from dreamseed_cli.gateway.settings import ServiceAddresses


@pytest.fixture
def state(tmp_path: Path, postgres_dsn: str) -> Path:
    """The state folder of a stack whose gateway was told of a database."""
    folder = tmp_path / "state"
    folder.mkdir()
    services = ServiceAddresses(postgres_dsn=postgres_dsn, journal=str(tmp_path / "journal"))
    told = settings(folder).model_copy(update={"services": services})
    (folder / "gateway.json").write_text(told.model_dump_json())
    return folder


async def put(dsn: str, *records: RequestRecord) -> None:
    """Events into the outbox."""
    store = RequestStore(dsn, keep_events=True)
    await store.insert([ended_line(each)[10:-1] for each in records])
    await store.close()


def put_now(dsn: str, *records: RequestRecord) -> None:
    """The same from outside an event loop."""
    asyncio.run(put(dsn, *records))


def run(*arguments: str) -> Result:
    """The command's result, with errors as they are raised."""
    app = typer.Typer()
    app.add_typer(events_app, name="events")
    result = app(args=["events", "tail", *arguments], standalone_mode=False)
    assert isinstance(result, Result)
    return result


async def test_the_last_events_oldest_first(state: Path, postgres_dsn: str) -> None:
    """As data: the event with when it was stored and published."""
    migrate(postgres_dsn)
    await put(postgres_dsn, *[record(f"e{number}", user_id="학생") for number in range(5)])
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("UPDATE outbox SET published_at = now() WHERE event_id = 'e3'")
    events = run("--last", "2", "--json").data["events"]
    assert [each["event"]["event_id"] for each in events] == ["e3", "e4"]
    assert [each["published_at"] is None for each in events] == [False, True]
    assert events[0]["event"]["user_id"] == "학생"
    assert run("--last", "0").data["events"] == []


async def test_payloads_are_what_kafka_gets(state: Path, postgres_dsn: str) -> None:
    """One JSON line an event."""
    migrate(postgres_dsn)
    await put(postgres_dsn, record("e1"))
    (line,) = run("--payload").view
    assert json.loads(str(line))["schema_version"] == 1


def test_following_tells_every_event_once(state: Path, postgres_dsn: str) -> None:
    """The last ones, then new ones, also one whose transaction ends after a later one's."""
    migrate(postgres_dsn)
    put_now(postgres_dsn, record("e1"), record("e2"))
    code = (
        "import typer; from dreamseed_cli.commands.events import events_app; app = typer.Typer();"
        "app.add_typer(events_app, name='events');"
        "app(args=['events', 'tail', '--follow', '--payload', '--last', '1'], standalone_mode=False)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline())["event_id"]]
        with psycopg.connect(postgres_dsn) as late:
            late.execute(
                "INSERT INTO outbox (event_id, key, payload) VALUES ('e3', '', '{\"event_id\":\"e3\"}')"
            )
            put_now(postgres_dsn, record("e4"))
            told.append(json.loads(process.stdout.readline())["event_id"])
        told.append(json.loads(process.stdout.readline())["event_id"])
        put_now(postgres_dsn, record("e5"))
        told.append(json.loads(process.stdout.readline())["event_id"])
        watchdog.cancel()
        process.kill()
    assert told == ["e2", "e4", "e3", "e5"]


def test_control_characters_do_not_reach_the_terminal(
    state: Path, postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's id is shown, and commands nothing."""
    from rich.console import Console

    migrate(postgres_dsn)
    put_now(postgres_dsn, record("e1", user_id="\x1b]0;x\x07[red]"))
    Console(width=200).print(*run().view)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[red]" in shown


def test_an_event_that_stands_for_many_shows_how_many(state: Path, postgres_dsn: str) -> None:
    """Behind what became of them."""
    from rich.console import Console

    migrate(postgres_dsn)
    many = {"outcome": Outcome.REJECTED, "reason": "unauthenticated", "count": 480}
    put_now(postgres_dsn, record("e1", outcome=Outcome.REJECTED, reason="queue_full"), record("e2", **many))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(*run().view)
    shown = console.export_text()
    assert "rejected (unauthenticated) x 480" in shown
    assert shown.count(" x ") == 1


@pytest.mark.parametrize(
    ("prepare", "arguments", "error", "said"),
    [
        ("schema", ("--follow", "--json"), UsageError, "--payload"),
        ("nothing", (), MissingError, "dreamseed db migrate"),
        ("off", (), MissingError, "without PostgreSQL"),
        ("away", (), MissingError, "does not answer"),
        ("no stack", (), MissingError, "dreamseed serve"),
    ],
)
def test_errors_name_the_remedy(
    state: Path,
    postgres_dsn: str,
    prepare: str,
    arguments: tuple[str, ...],
    error: type[DreamseedError],
    said: str,
) -> None:
    """Two endings of one output; no schema; PostgreSQL off or away; nothing runs."""
    if prepare == "schema":
        migrate(postgres_dsn)
    config = state / "gateway.json"
    if prepare == "off":
        config.write_text(config.read_text().replace(f'"{postgres_dsn}"', "null"))
    if prepare == "away":
        config.write_text(config.read_text().replace(postgres_dsn, "host=/nonexistent dbname=x"))
    if prepare == "no stack":
        config.unlink()
    with pytest.raises(error, match=said):
        run(*arguments)


def test_a_database_that_goes_away_while_following_is_told(state: Path, postgres_dsn: str) -> None:
    """It ends with an error, not with a traceback of psycopg's."""
    from dreamseed_cli.gateway.events.tail import follow_events

    migrate(postgres_dsn)
    put_now(postgres_dsn, record("e1"), record("e2"))
    events = follow_events(postgres_dsn, 2)
    next(events)
    with psycopg.connect(postgres_dsn, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(FailedError):
        list(events)
