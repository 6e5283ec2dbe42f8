"""The way back where it fails: what is undone, and what must not be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.database.standby import failback as module
from dreamseed_cli.database.standby.failback import failback
from dreamseed_cli.database.standby.pair import Fence, Pair, Promoted, SplitBrain
from dreamseed_cli.database.standby.promote import LeftBehind, promote
from dreamseed_cli.database.standby.seen import Role, Seen
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.database.standby.watch import Mode

_AT = datetime(2025, 11, 10, tzinfo=UTC)


@dataclass
class Servers:
    """Two that follow our commands: host=home streams from host=cloud, which was promoted."""

    roles: dict[str, Role] = field(
        default_factory=lambda: {"host=home": Role.STANDBY, "host=cloud": Role.PRIMARY}
    )
    timelines: dict[str, int] = field(default_factory=lambda: {"host=home": 3, "host=cloud": 2})

    def look(self, dsn: str) -> Seen:
        return Seen(self.roles[dsn], "7")

    def let_write(self, dsn: str, *, allowed: bool) -> None:
        self.roles[dsn] = Role.PRIMARY if allowed else Role.FENCED

    @property
    def pair(self) -> Pair:
        return Pair("host=home", "host=cloud", self.look)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    """They answer what a way back asks them."""
    servers = Servers()

    @contextmanager
    def session(dsn: str) -> Iterator[str]:
        yield dsn

    def one(_: str, query: str, __: Any = ()) -> object:
        if "wal_receiver" in query:
            return "streaming"
        return 0 if "count(*)" in query else "0/100" if "flush" in query else 1

    monkeypatch.setattr(module, "session", session)
    monkeypatch.setattr(module, "one", one)
    monkeypatch.setattr(module, "let_write", servers.let_write)
    monkeypatch.setattr(module, "look", servers.look)
    monkeypatch.setattr(module, "position", lambda dsn: ("0/100", servers.timelines[dsn]))
    return servers


@pytest.fixture
def file(tmp_path: Path) -> ServiceFile:
    """Clients go to the promoted one."""
    file = ServiceFile(tmp_path / "service", "dreamseed")
    file.point(Mode.PROMOTED, "host=cloud", _AT)
    return file


@pytest.mark.parametrize(
    "error", [FailedError("the promotion did not end"), KeyboardInterrupt(), OSError("gone")]
)
def test_once_a_promotion_was_asked_for_nothing_is_undone(
    servers: Servers, file: ServiceFile, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """It may come later: two would take writes. The next run that fails lets nobody write either."""

    def asked(_: str) -> NoReturn:
        raise error

    monkeypatch.setattr(module, "promote_server", asked)
    with pytest.raises(FailedError, match="run dreamseed db failback again"):
        failback(servers.pair, Fence(), file, _AT)
    assert servers.roles["host=cloud"] is Role.FENCED
    with pytest.raises(FailedError, match="exited with code 1"):
        failback(servers.pair, Fence(("false",)), file, _AT)
    assert servers.roles["host=cloud"] is Role.FENCED
    assert file.mode() is Mode.PROMOTED


def test_before_that_it_is_undone(servers: Servers, file: ServiceFile) -> None:
    """Writes go on where they were."""
    with pytest.raises(FailedError, match="exited with code 1"):
        failback(servers.pair, Fence(("false",)), file, _AT)
    assert servers.roles["host=cloud"] is Role.PRIMARY


def test_a_first_server_that_somebody_else_promoted_meanwhile_writes_alone(
    servers: Servers, file: ServiceFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the replica stays fenced."""

    def promoted(*_: object) -> NoReturn:
        servers.roles["host=home"] = Role.PRIMARY
        raise FailedError("too late")

    monkeypatch.setattr(module, "until", promoted)
    with pytest.raises(FailedError, match="too late"):
        failback(servers.pair, Fence(), file, _AT)
    assert servers.roles["host=cloud"] is Role.FENCED


def test_a_run_that_was_killed_after_the_promotion_only_turns_the_clients(
    servers: Servers, file: ServiceFile
) -> None:
    """Promoting the replica again is refused, and the way out is named."""
    servers.roles.update({"host=home": Role.PRIMARY, "host=cloud": Role.FENCED})
    with pytest.raises(SplitBrain, match="Run dreamseed db failback again"):
        promote(servers.pair, Fence(vouched=True), file, _AT)
    assert failback(servers.pair, Fence(("false",)), file, _AT).server.timeline == 3
    assert file.mode() is Mode.PRIMARY
    assert servers.roles["host=cloud"] is Role.FENCED


@pytest.mark.parametrize("home", [Role.AWAY, Role.PRIMARY])
def test_a_replica_that_clients_went_home_from_is_not_promoted(
    servers: Servers, file: ServiceFile, home: Role
) -> None:
    """It follows nobody since: what was written at home after the failback is not in it."""
    servers.roles.update({"host=home": home, "host=cloud": Role.FENCED})
    file.point(Mode.PRIMARY, "host=home", _AT)
    with pytest.raises(LeftBehind, match="nothing that was written since"):
        promote(servers.pair, Fence(vouched=True), file, _AT)
    assert (servers.roles["host=cloud"], file.mode()) == (Role.FENCED, Mode.PRIMARY)


@pytest.mark.parametrize(("home", "cloud"), [(1, 2), (2, 2)])
def test_a_first_server_started_as_it_was_gets_no_clients(
    servers: Servers, file: ServiceFile, home: int, cloud: int
) -> None:
    """It parted from the replica before that was promoted, or was promoted on its own."""
    servers.roles.update({"host=home": Role.PRIMARY, "host=cloud": Role.FENCED})
    servers.timelines.update({"host=home": home, "host=cloud": cloud})
    with pytest.raises(SplitBrain, match="does not follow the promoted one"):
        failback(servers.pair, Fence(), file, _AT)
    assert file.mode() is Mode.PROMOTED


def test_a_replica_that_a_fence_stopped_before_the_promotion_is_started_again(
    servers: Servers, file: ServiceFile
) -> None:
    """It refuses writes then."""
    servers.roles["host=cloud"] = Role.AWAY
    with pytest.raises(MissingError, match="it refuses writes, and the next run goes on"):
        failback(servers.pair, Fence(), file, _AT)


@pytest.mark.parametrize("killed", [False, True])
def test_a_first_server_made_of_the_fenced_replica_takes_writes(
    servers: Servers, file: ServiceFile, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Its copy of the settings refuses them: clients would go to a server that takes none."""

    def promoted(dsn: str) -> Promoted:
        servers.roles[dsn] = Role.FENCED
        if killed:
            raise KeyboardInterrupt
        return Promoted("0/100", 3, None)

    servers.roles["host=cloud"] = Role.FENCED
    monkeypatch.setattr(module, "promote_server", promoted)
    monkeypatch.setattr(module, "until", lambda *_: None)
    if killed:
        with pytest.raises(FailedError, match="failback again"):
            failback(servers.pair, Fence(), file, _AT)
    assert failback(servers.pair, Fence(), file, _AT).server.timeline == 3
    assert servers.roles == {"host=home": Role.PRIMARY, "host=cloud": Role.FENCED}
    assert file.mode() is Mode.PRIMARY
