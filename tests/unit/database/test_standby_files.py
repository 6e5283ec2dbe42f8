"""The service file, the fence, the prober and the profile's part of a standby."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from dreamseed_cli.core.errors import FailedError, MissingError, UsageError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.database.standby import promote as promote_module
from dreamseed_cli.database.standby import service_file
from dreamseed_cli.database.standby.doors import open_standby
from dreamseed_cli.database.standby.keep import Turn, keep
from dreamseed_cli.database.standby.pair import Fence, Pair, Promoted, SplitBrain, until
from dreamseed_cli.database.standby.promote import promote
from dreamseed_cli.database.standby.seen import Prober, Role, Seen, look
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.database.standby.watch import Mode, Watch
from dreamseed_cli.profile.schema import Postgres
from dreamseed_cli.profile.standby import Standby

_AT = datetime(2025, 11, 10, tzinfo=UTC)
_AWAY = Seen(Role.AWAY, cause="refused")
_ALIVE = Seen(Role.PRIMARY, "7")
_STANDBY = Seen(Role.STANDBY, "7")


def test_the_service_file_says_where_and_in_which_mode(tmp_path: Path) -> None:
    """As libpq reads it; only its owner may."""
    file = ServiceFile(tmp_path / "new" / "service", "dreamseed")
    assert file.mode() is None
    file.point(Mode.REPLICA, "postgresql://me:s%20ecret@10.0.0.6/db", _AT)
    assert file.mode() is Mode.REPLICA
    lines = file.path.read_text().splitlines()
    assert lines[1] == "[dreamseed]"
    assert sorted(lines[2:]) == ["dbname=db", "host=10.0.0.6", "password=s ecret", "user=me"]
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.path.write_text("[dreamseed]\nhost=somebody's own\n")
    assert (file.mode(), file.read().system) == (None, "")


def test_the_service_file_remembers_the_cluster(tmp_path: Path) -> None:
    """For a watch that starts while the primary is away."""
    file = ServiceFile(tmp_path / "service", "dreamseed")
    file.point(Mode.PRIMARY, "host=a", _AT, "7")
    file.point(Mode.REPLICA, "host=b", _AT)
    assert file.read().system == "7"


async def test_a_watch_that_starts_without_the_primary_remembers_its_cluster(tmp_path: Path) -> None:
    """Another's replica at the address gets no clients, and that is told; its own gets them."""
    file = ServiceFile(tmp_path / "service", "dreamseed")
    seen = {"host=a": _ALIVE, "host=b": Seen(Role.STANDBY, "8")}
    pair = Pair("host=a", "host=b", look=lambda dsn: seen[dsn])
    settings = Standby(probe_s=0.01, down_s=0.05)

    async def watch_until(wanted: Callable[[Turn], bool]) -> Watch:
        stopping = asyncio.Event()

        def tell(turn: Turn) -> None:
            if wanted(turn):
                stopping.set()

        return await keep(pair, file, settings, stopping, tell)

    await watch_until(lambda turn: turn.mode is Mode.PRIMARY)
    seen["host=a"] = _AWAY
    await watch_until(lambda turn: "CLIENTS HAVE NO DATABASE: the replica is of another cluster" in str(turn))
    assert (file.mode(), file.read().system) == (Mode.PRIMARY, "7")
    seen["host=b"] = _STANDBY
    await watch_until(lambda turn: turn.mode is Mode.REPLICA)
    assert (file.mode(), file.read().system) == (Mode.REPLICA, "7")


@pytest.mark.parametrize("dsn", ["service=other", "host='a '", "password='a\nb'"])
def test_what_a_service_file_cannot_hold_is_refused(tmp_path: Path, dsn: str) -> None:
    """Without quoting a value of it; the file before stays."""
    with pytest.raises(UsageError, match="cannot stand in a service file"):
        ServiceFile(tmp_path / "service", "dreamseed").point(Mode.PRIMARY, dsn, _AT)


def test_silence_is_no_proof_of_death() -> None:
    """Nor is a word, while it answers."""
    with pytest.raises(SplitBrain, match="proves nothing"):
        Fence().close("primary", lambda: _AWAY)
    with pytest.raises(SplitBrain, match="still answers"):
        Fence().close("primary", lambda: _ALIVE)
    with pytest.raises(SplitBrain, match="still answers"):
        Fence(vouched=True).close("primary", lambda: _ALIVE)
    assert "vouches" in Fence(vouched=True).close("primary", lambda: _AWAY)


def test_a_fence_command_counts_if_it_succeeds_and_the_server_is_silent() -> None:
    """It knows which server is meant."""
    told = Fence(("sh", "-c", 'test "$DREAMSEED_FENCE" = primary')).close("primary", lambda: _AWAY)
    assert "fenced it" in told
    with pytest.raises(SplitBrain, match="still answers, as a primary"):
        Fence(("true",)).close("primary", lambda: _ALIVE)
    with pytest.raises(FailedError, match="exited with code 3"):
        Fence(("sh", "-c", "exit 3")).close("primary", lambda: _AWAY)
    with pytest.raises(FailedError, match="cannot be run"):
        Fence(("/no/such/program",)).close("primary", lambda: _AWAY)


@pytest.mark.parametrize(
    ("primary", "replica", "error"),
    [
        (_AWAY, _AWAY, MissingError),
        (_ALIVE, _ALIVE, SplitBrain),
        (_ALIVE, Seen(Role.STANDBY, "8"), SplitBrain),
        (_ALIVE, _STANDBY, SplitBrain),
        (_AWAY, _STANDBY, SplitBrain),
    ],
)
def test_nothing_is_promoted_while_two_might_take_writes(
    tmp_path: Path, primary: Seen, replica: Seen, error: type[Exception]
) -> None:
    """And the clients stay where they are."""
    file = ServiceFile(tmp_path / "service", "dreamseed")
    pair = Pair("primary", "replica", look={"primary": primary, "replica": replica}.__getitem__)
    with pytest.raises(error):
        promote(pair, Fence(), file, _AT)
    assert file.mode() is None


async def test_a_disk_that_is_full_ends_no_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and tried again."""
    file, full = ServiceFile(tmp_path / "service", "dreamseed"), [True]
    pair = Pair("host=a", "host=b", look={"host=a": _ALIVE, "host=b": _STANDBY}.__getitem__)

    def write_or_not(path: Path, content: bytes) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, content)

    monkeypatch.setattr(service_file, "write_atomically", write_or_not)
    stopping, told = asyncio.Event(), list[str]()

    def tell(turn: Turn) -> None:
        told.append(turn.unwritten)
        full[0] = False
        if not turn.unwritten:
            stopping.set()

    await keep(pair, file, Standby(probe_s=0.01, down_s=1.0), stopping, tell)
    assert told == ["No space left on device", ""]
    assert file.mode() is Mode.PRIMARY


@pytest.mark.parametrize("role", [Role.STANDBY, Role.PRIMARY])
def test_another_clusters_server_is_not_promoted_over_a_dead_primary(tmp_path: Path, role: Role) -> None:
    """Nobody answers but a stranger at the replica's address: what `watch` remembered tells."""
    file = ServiceFile(tmp_path / "service", "dreamseed")
    file.point(Mode.REPLICA, "host=b", _AT, "7")
    pair = Pair("host=a", "host=b", look={"host=a": _AWAY, "host=b": Seen(role, "8")}.__getitem__)
    with pytest.raises(SplitBrain, match="not of one cluster"):
        promote(pair, Fence(vouched=True), file, _AT)
    assert file.mode() is Mode.REPLICA


@pytest.mark.parametrize("primary", [_AWAY, _STANDBY])
def test_a_promotion_that_is_done_changes_nothing(tmp_path: Path, primary: Seen) -> None:
    """Clients are sent there, again if need be; also once the first server follows it."""
    file = ServiceFile(tmp_path / "service", "dreamseed")
    pair = Pair("host=a", "host=b", look={"host=a": primary, "host=b": _ALIVE}.__getitem__)
    assert not promote(pair, Fence(), file, _AT).changed
    assert file.mode() is Mode.PROMOTED


@pytest.mark.parametrize(("heard_s", "done"), [(None, True), (41.0, True), (30.0, False)])
def test_a_replica_that_still_hears_from_the_old_primary_is_not_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard_s: float | None, done: bool
) -> None:
    """Whatever a person vouches for: our own way to it is cut. After longer silence it counts as gone."""
    monkeypatch.setattr(promote_module, "session", nullcontext)
    monkeypatch.setattr(promote_module, "one", lambda *_: heard_s)
    monkeypatch.setattr(promote_module, "promote_server", lambda _: Promoted("0/1", 2, None))
    monkeypatch.setattr(promote_module, "_DROP_S", 0.0)
    file = ServiceFile(tmp_path / "service", "dreamseed")
    pair = Pair("host=a", "host=b", look={"host=a": _AWAY, "host=b": _STANDBY}.__getitem__)
    with nullcontext() if done else pytest.raises(SplitBrain, match="it is alive"):
        promote(pair, Fence(vouched=True), file, _AT)
    assert file.mode() is (Mode.PROMOTED if done else None)


async def test_a_server_that_hangs_is_away_and_not_asked_twice() -> None:
    """One question at a time, until it is answered."""
    asked, answer = [], threading.Event()

    def hang(dsn: str) -> Seen:
        asked.append(dsn)
        answer.wait(10)
        return _ALIVE

    prober = Prober("host=a", 0.05, hang)
    assert (await prober.look()).role is Role.AWAY
    assert (await prober.look()).role is Role.AWAY
    assert asked == ["host=a"]
    answer.set()
    late = Prober("host=a", 5.0, hang)
    assert (await late.look()).role is Role.PRIMARY


def test_a_server_that_is_not_there_is_away_with_a_cause(tmp_path: Path) -> None:
    """In one line."""
    seen = look(f"host={tmp_path} dbname=none")
    assert not seen.answers
    assert "No such file" in seen.cause


def test_waiting_has_an_end() -> None:
    """It says for what."""
    with pytest.raises(FailedError, match="the thing did not end within 0 s"):
        until(lambda: False, 0.0, "the thing")


def test_a_profiles_standby(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two servers by variables; none, or the same twice, is refused."""
    postgres = Postgres(mode="external", standby=Standby())
    monkeypatch.setenv("DREAMSEED_PRIMARY_URL", "host=a")
    monkeypatch.setenv("DREAMSEED_REPLICA_URL", "host=b")
    settings, pair, file = open_standby(postgres, StateDir(tmp_path))
    assert (pair.primary, pair.replica, file.dsn()) == ("host=a", "host=b", "service=dreamseed")
    assert settings.down_s == 15.0
    monkeypatch.setenv("DREAMSEED_REPLICA_URL", "host=a")
    with pytest.raises(UsageError, match="same server"):
        open_standby(postgres, StateDir(tmp_path))
    with pytest.raises(UsageError, match="no standby"):
        open_standby(Postgres(), StateDir(tmp_path))


@pytest.mark.parametrize("changes", [{"down_s": 3.0}, {"most_back_s": 1.0}])
def test_a_standby_that_would_flap_is_refused(changes: dict[str, float]) -> None:
    """A single lost answer is no failure."""
    with pytest.raises(ValidationError):
        Standby(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="external"):
        Postgres(standby=Standby())
