"""All five drills on real servers, stores and keys, small."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from b2_server import DAILY, B2Server, b2_server
from backup_runs import KEYS
from backup_runs import settings as backup_settings
from drill_site import PACE, Site, site
from other_account import NOT_ROOT, OtherAccount
from real_services import postgres

from dreamseed_cli.app import main
from dreamseed_cli.backup.keys import write_identity
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.drill.clean_place import CleanPlace
from dreamseed_cli.drill.content import DIGESTS, ROW_COUNTS, read_content
from dreamseed_cli.drill.doors import play
from dreamseed_cli.drill.heartbeats import beating, newest_row, remove
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.drill.proving import OWN_DIGESTS, Known, first_answer
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.stage import Clock, Stage
from dreamseed_cli.drill.timeline import Outcome, Step
from dreamseed_cli.profile.backup import Backup

ROOT = Path(__file__).resolve().parents[2]


_SCHEMA = "SELECT to_regnamespace('dreamseed_drill')::text"

pytestmark = pytest.mark.usefixtures("untraced_children")


@pytest.fixture(scope="module")
def live() -> Iterator[Site]:
    """One live system for all drills: none of them may touch more of it than its own schema."""
    with tempfile.TemporaryDirectory(prefix="ds-dr-") as name, site(Path(name)) as found:
        before = read_content(found.dsn)
        yield found
        after = read_content(found.dsn)
    assert (after.tables, after.schema) == (before.tables, before.schema)


@pytest.fixture(scope="module")
def drills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where their records and pages go."""
    return tmp_path_factory.mktemp("drills")


def _drill(live: Site, drills: Path, scenario: str, **wishes: Any) -> DrillRecord:
    (played,) = play([scenario], live.wish(), live.company(drills, **wishes))
    assert played.page.is_file()
    assert not list((live.root / "scratch").iterdir())
    return played.record


def _passed(record: DrillRecord) -> dict[str, bool | None]:
    """What was checked, of a drill that passed."""
    assert record.outcome is Outcome.PASSED, record.misses
    assert record.rpo_s is not None
    assert record.rto_s is not None
    return {check.name: check.passed for check in record.checks}


def test_lost_host(live: Site, drills: Path) -> None:
    """A process with the key alone brings everything back; the live database keeps no heartbeats."""
    record = _drill(live, drills, "lost-host", link_mbps=100.0)
    checks = _passed(record)
    wanted = ("schema", "row counts", "content digests", "the backup's own digests", "page checksums")
    assert all(checks[name] for name in wanted)
    assert not any("not archived in time" in note for note in record.notes)
    assert record.extrapolated is not None
    stored = live.newest_bytes() * record.database_bytes / live.newest_bytes(plain=True)
    assert record.extrapolated.fetch_s > stored * 8 / 100e6
    assert "the key, the store's address" in record.notes[0]
    assert record.notes[1].startswith("Hidden from it: ")
    assert all(str(path) in record.notes[1] for path in (live.settings.home, live.running.server.data))
    with psycopg.connect(live.dsn) as connection:
        assert connection.execute(_SCHEMA).fetchone() == (None,)


def test_a_killed_drills_heartbeats_go_with_the_next(live: Site) -> None:
    """Nobody else removes them, and the schema would stay for ever."""
    with beating(live.dsn, "killed", 60.0, lambda: Clock().now() - timedelta(days=2)):
        pass
    with beating(live.dsn, "next", 60.0, Clock().now):
        pass
    remove(live.dsn, "next")
    with psycopg.connect(live.dsn) as connection:
        assert connection.execute(_SCHEMA).fetchone() == (None,)


def test_what_is_archived_after_the_loss_was_not_saved(
    live: Site, drills: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live server is not really lost, and archives on while its loss is rehearsed: RPO ends before."""
    restore = CleanPlace.physical

    def archiving_on(place: CleanPlace, data: Path) -> dict[str, Any]:
        with psycopg.connect(live.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_logical_emit_message(true, 'test', 'after the loss')")
            segment = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
            assert segment is not None
            _archived(connection, segment[0])
        return restore(place, data)

    monkeypatch.setattr(CleanPlace, "physical", archiving_on)
    record = _drill(live, drills, "lost-host")
    _passed(record)
    loss = next(event for event in record.events if event.step is Step.LOSS)
    assert record.recovered is not None
    assert record.recovered.at < loss.at
    assert "and none since" in record.notes[2]


def test_heartbeats_leave_nothing_but_what_others_need(live: Site) -> None:
    """Another drill's rows keep the schema, and so does what somebody put beside them."""
    with psycopg.connect(live.dsn, autocommit=True) as connection:
        with beating(live.dsn, "one", 60.0, Clock().now), beating(live.dsn, "other", 60.0, Clock().now):
            pass
        remove(live.dsn, "one")
        assert newest_row(connection, "one") is None
        assert newest_row(connection, "other") is not None
        connection.execute("CREATE TABLE dreamseed_drill.mine ()")
        remove(live.dsn, "other")
        assert newest_row(connection, "other") is None
        connection.execute("DROP TABLE dreamseed_drill.mine")
        remove(live.dsn, "other")
        assert connection.execute(_SCHEMA).fetchone() == (None,)


def test_a_machine_without_the_database_and_a_missed_target_exit_with_1(
    live: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heartbeats in the store tell the RPO; everything came back, and no restore takes no time."""
    live.beat()
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(live.settings.home))
    where = ("--store", live.settings.store_url, "--scratch", str(live.root / "scratch"))
    code, found = _runner(capsys)("drill", "lost-host", "--rto-target", "0", "--surprise", "0", *where)
    assert code == 1, found
    (drill,) = found["drills"]
    assert drill["outcome"] == "missed"
    assert drill["misses"][0].startswith("RTO: ")
    assert drill["rpo_s"] is not None
    assert drill["recovered"] is not None
    assert not list((live.root / "scratch").iterdir())


def test_a_database_that_archives_nothing_is_not_waited_for(live: Site, drills: Path) -> None:
    """A quarter of an hour for nothing, until now. The backup's own end is what comes back."""
    patient = replace(live.wish(), pace=replace(PACE, archive_s=600.0))
    with _setting(live, "archive_command", ""):
        (played,) = play(["lost-host"], patient, live.company(drills))
    assert any("archives no WAL" in note for note in played.record.notes)


def test_a_loss_at_once_waits_for_no_archive_timeout(live: Site, drills: Path) -> None:
    """The drill ends the segment itself, which nobody else would here, and says so."""
    hurried = replace(live.wish(), pace=replace(PACE, surprise_s=0.0, archive_s=60.0))
    with _setting(live, "archive_timeout", "0"):
        (played,) = play(["lost-host"], hurried, live.company(drills))
    _passed(played.record)
    assert any("ended itself" in note for note in played.record.notes)
    assert not any("not archived in time" in note for note in played.record.notes)


@contextmanager
def _setting(live: Site, name: str, text: str) -> Iterator[None]:
    """The live server has this one meanwhile."""
    with psycopg.connect(live.dsn, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET {name} = '{text}'".encode())
        connection.execute("SELECT pg_reload_conf()")
        try:
            while connection.execute(f"SHOW {name}".encode()).fetchone() != (text,):
                time.sleep(0.05)
            yield
        finally:
            connection.execute(f"ALTER SYSTEM RESET {name}".encode())
            connection.execute("SELECT pg_reload_conf()")


@dataclass(frozen=True)
class Bucket:
    """A live system whose backups lie in a bucket. given: the bucket's keys, as variables."""

    server: B2Server
    live: Site
    profile: Path
    given: dict[str, str]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """Its folder is closed to others; the profile, which names the bucket, is not."""
    with (
        b2_server() as b2,
        tempfile.TemporaryDirectory(prefix="ds-db-") as name,
        tempfile.NamedTemporaryFile("w", suffix=".toml") as profile,
        pytest.MonkeyPatch.context() as patch,
    ):
        given = b2.environment(DAILY)
        for variable, text in given.items():
            patch.setenv(variable, text)
        table = f'\n[backup]\nstore = "b2:dreamseed"\nb2_realm = "{b2.url}"\n'
        profile.write((ROOT / "profiles" / "laptop.toml").read_text(encoding="utf-8") + table)
        profile.flush()
        path = Path(profile.name)
        path.chmod(0o644)
        with site(Path(name), path) as there:
            yield Bucket(b2, there, path, given)


def test_lost_host_from_a_bucket(bucket: Bucket, drills: Path) -> None:
    """The clean place gets the bucket's keys and the profile that names its server, and needs no more."""
    bucket.server.calls.clear()
    record = _drill(bucket.live, drills, "lost-host")
    checks = _passed(record)
    assert all(checks[name] for name in ("schema", "row counts", "content digests"))
    (given,) = [note for note in record.notes if note.startswith("The clean place was given")]
    assert "$DREAMSEED_B2_KEY" in given
    assert "the profile, which names the store's server" in given
    assert "download" in bucket.server.calls


def test_lost_host_from_an_account_that_holds_nothing_but_the_key(bucket: Bucket) -> None:
    """An empty home, no variable but the bucket's, every file of the source closed to it: the drill passes,
    and its result is the account's own, signed.
    """
    with tempfile.TemporaryDirectory(prefix="ds-al-") as name:
        account = OtherAccount.in_folder(Path(name))
        key = Path(name) / "offline-key.txt"
        write_identity(key, KEYS.recovery)
        account.give(key)
        live = bucket.live
        if not account.ours:
            for path in (live.settings.key_file, live.running.server.data, live.root):
                assert "Permission denied" in account.run(["ls", f"{path}/."], {}).stderr
        argv = [sys.executable, "-m", "dreamseed_cli", "drill", "lost-host", "--surprise", "0", "--json"]
        argv += ["--key-file", str(key), "--profile", str(bucket.profile)]
        done = account.run(argv, bucket.given)
        assert done.returncode == 0, done.stderr + done.stdout
        history = Folder(account.home / ".local" / "state" / "dreamseed" / "drills").read()
    (record,) = history.records
    assert history.errors == ()
    checks = _passed(record)
    assert all(checks[name] for name in (OWN_DIGESTS, "content compared", "restored files"))
    if account.ours:
        pytest.xfail(NOT_ROOT)


def test_lost_host_from_a_dump(live: Site, drills: Path) -> None:
    """A logical backup comes back into a new server, as it was when it was made; its source is still so."""
    table = Backup(store=f"local:{live.root / 'dumps'}", kind="logical")
    dumps = replace(live, settings=backup_settings(live.root / "dumps-home", table))
    made = dumps.back_up(Kind.LOGICAL)
    record = _drill(dumps, drills, "lost-host")
    checks = _passed(record)
    wanted = ("schema", "row counts", "content digests", "the backup's own digests", "page checksums")
    assert all(checks[name] for name in wanted)
    assert record.backup_id == made
    assert record.recovered is not None
    assert record.recovered.proof == "the moment at which the backup began"


def test_a_database_without_a_table_comes_back_and_nothing_is_said_about_data(
    live: Site, drills: Path
) -> None:
    """The checks of the content are not done, and the page says what that means."""
    with tempfile.TemporaryDirectory(prefix="ds-db-") as name, postgres(Path(name)) as server:
        table = Backup(store=f"local:{name}/dumps", kind="logical")
        empty = replace(live, settings=backup_settings(Path(name) / "home", table), running=server)
        with psycopg.connect(server.server.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE school")
        empty.back_up(Kind.LOGICAL)
        (played,) = play(["lost-host"], empty.wish(), empty.company(drills))
    checks = _passed(played.record)
    assert [checks[name] for name in (ROW_COUNTS, DIGESTS, OWN_DIGESTS, "content compared")] == [None] * 4
    assert "nothing is shown about data" in played.page.read_text(encoding="utf-8")


def test_a_dump_that_is_older_than_its_source_proves_its_own_digests_only(live: Site, drills: Path) -> None:
    """Nothing tells what was lost from what was damaged, and nothing is said to be equal."""
    table = Backup(store=f"local:{live.root / 'old-dumps'}", kind="logical")
    dumps = replace(live, settings=backup_settings(live.root / "old-dumps-home", table))
    with psycopg.connect(live.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE moved (n int)")
        try:
            dumps.back_up(Kind.LOGICAL)
            connection.execute("INSERT INTO moved VALUES (1)")
            checks = _passed(_drill(dumps, drills, "lost-host"))
        finally:
            connection.execute("DROP TABLE moved")
    assert checks["row counts"] is checks["content digests"] is None
    assert checks["the backup's own digests"]
    assert checks["schema"]


def test_an_answer_of_another_shape_is_no_verified_one(live: Site, tmp_path: Path) -> None:
    """RTO does not end with it. What may be older than its source may have another."""
    content = read_content(live.dsn)
    one_more = {**content.schema, "school": (*content.schema["school"], "column public.learner.lost")}
    known = Known(replace(content, schema=one_more), "school", lambda: content)
    stage = Stage("a-test", live.wish(), tmp_path)
    with pytest.raises(FailedError, match=r"1 line missing, 0 new: column public\.learner\.lost"):
        first_answer(stage, live.dsn, known, complete=True)
    assert stage.events == []
    first_answer(stage, live.dsn, known, complete=False)
    first_answer(stage, live.dsn, replace(known, content=content), complete=True)
    assert [event.step for event in stage.events] == [Step.ANSWERED, Step.ANSWERED]
    assert stage.events[0].detail.endswith("older than the source's")
    assert stage.events[1].detail.endswith("as in the source")


def test_lost_database(live: Site, drills: Path) -> None:
    """Killed, wiped, restored in place; what came after the last archived segment is the loss."""
    record = _drill(live, drills, "lost-database")
    assert _passed(record)["content digests"]
    assert record.rpo_s is not None
    assert record.rpo_s > 0.0


def test_bad_deploy(live: Site, drills: Path) -> None:
    """The table is back as it was, and nothing from after the statement."""
    checks = _passed(_drill(live, drills, "bad-deploy"))
    assert checks["the moment before"]
    assert checks["row counts"]


def test_corrupt_backup(live: Site, drills: Path) -> None:
    """Refused by name; the older one is taken and rolled forward to the same end."""
    record = _drill(live, drills, "corrupt-backup")
    assert _passed(record)["the damaged one is refused"]
    refused = next(event for event in record.events if event.step is Step.REFUSED)
    assert record.backup_id in refused.detail


def test_failover(live: Site, drills: Path) -> None:
    """§E3's four steps in order, a client going on through all of them without a change."""
    record = _drill(live, drills, "failover")
    checks = _passed(record)
    expected = ("read-only meanwhile", "writes after promotion", "writes back home", "acknowledged writes")
    assert all(checks[name] for name in expected)
    steps = [event.step for event in record.events]
    order = [Step.LOSS, Step.DETECTED, Step.READ_ONLY, Step.PROMOTED, Step.ANSWERED, Step.RETURNED]
    assert [step for step in steps if step in order] == order


def test_the_commands(
    live: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A forced failure exits with 4 and is in the history; the schedule finds nothing due after it."""
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(live.settings.home))
    monkeypatch.setenv("TEST_DSN", live.dsn)
    (tmp_path / "empty").mkdir()
    run: Callable[..., tuple[int, Any]] = _runner(capsys)
    code, errors = run("drill", "lost-host", "--store", f"local:{tmp_path / 'empty'}", "--surprise", "0")
    assert code == 4, errors
    code, found = run("drill", "history")
    assert (code, [one["outcome"] for one in found["drills"]]) == (0, ["failed"])
    assert run("drill", "show")[1]["drills"][0]["outcome"] == "failed"
    assert run("drill", "due") == (0, {"drills": []})
    assert run("drill", "show", "nothing")[0] == 3
    assert run("drill", "checklist", "--instance", "mine")[0] == 0


def _archived(connection: psycopg.Connection[Any], segment: str) -> None:
    """Wait until the live server has archived it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = connection.execute("SELECT last_archived_wal FROM pg_stat_archiver").fetchone()
        if found is not None and (found[0] or "") >= segment:
            return
        time.sleep(0.1)
    raise AssertionError(f"{segment} was not archived")


def _runner(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    def once(*words: str) -> tuple[int, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        answer = json.loads(capsys.readouterr().out)
        return int(ended.value.code or 0), answer["data"] if answer["data"] is not None else answer["errors"]

    return once
