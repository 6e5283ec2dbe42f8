"""Files that other processes of the box leave for Prometheus, some of them another user's."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from dreamseed_cli.backup.records import RunRecord
from dreamseed_cli.backup.settings import textfile_in
from dreamseed_cli.backup.textfile import write_textfile
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.security.folder import CertificateFolder
from dreamseed_cli.monitoring.collect import Exposition
from dreamseed_cli.monitoring.serve import collectors
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.journal import Shutdown, StepRecord, StepState, UpsFolder, append_line
from dreamseed_cli.ups.policy import Power
from dreamseed_cli.ups.records import PowerRecord, read_power
from dreamseed_cli.ups.textfile import write_metrics

_STACKS_USER = 65534
_ON_BATTERY = b"dreamseed_ups_on_battery 0.0"
_FAILURES = b"dreamseed_backup_failures_in_a_row 0.0"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[StateDir]:
    """The stack's user's, closed to others, as its units have it; a look at the backups has been there."""
    with tempfile.TemporaryDirectory(prefix="ds-left-") as folder:
        root = Path(folder) / "state"
        root.mkdir(0o700)
        monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(root))
        write_textfile(textfile_in(root), RunRecord())
        if os.geteuid() == 0:
            for path in (Path(folder), root):
                os.chown(path, _STACKS_USER, _STACKS_USER)
        yield StateDir(root)


def _left(state: StateDir) -> bytes:
    parts = collectors(state, CertificateFolder(state.root))
    return asyncio.run(Exposition({name: parts[name] for name in ("backups", "ups")}).text())


def _as_stacks_user(read: Callable[[], bytes]) -> bytes:
    """What it reads in a process of the stack's user. A test that is not root's has no other than its own."""
    if os.geteuid() != 0:
        return read()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(_STACKS_USER)
            os.setuid(_STACKS_USER)
            os.write(theirs, read())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def test_what_roots_watcher_left_is_told_by_the_stacks_user(state: StateDir) -> None:
    """The watcher may shut the host down, the exporter nothing. Whatever else is there stays closed."""
    folder = UpsFolder.of(state)
    with folder.only_watcher():
        write_metrics(folder.textfile, Power(), 0.0, Ups(source="nut"))
        folder.keep_power(Power())
    told = _as_stacks_user(lambda: _left(state))
    assert _ON_BATTERY in told
    assert _FAILURES in told
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder.root, *folder.root.iterdir())}
    assert rights == {"ups": 0o711, "ups.prom": 0o644, "power.json": 0o600}


def test_what_roots_watcher_recorded_is_read_by_the_stacks_user(state: StateDir) -> None:
    """`ups status`, `ups plan` and `cost-sim` count outages, energy and how long a shutdown took."""
    folder = UpsFolder.of(state)
    shutdown = Shutdown.begin("low_charge")
    shutdown.steps.append(StepRecord("engines", StepState.DONE, 12.5, 60.0))
    folder.finish(shutdown)
    append_line(folder.power_log, msgspec.json.encode(PowerRecord("outage", 1.0, 2.0)))

    def read() -> bytes:
        return f"{folder.measured_s()} {[one.kind for one in read_power(folder.power_log)]}".encode()

    assert _as_stacks_user(read) == b"12.5 ['outage']"


def test_a_folder_that_was_closed_is_opened(state: StateDir) -> None:
    """A watcher before this one made it so."""
    folder = UpsFolder.of(state)
    folder.root.mkdir(0o700)
    write_metrics(folder.textfile, Power(), 0.0, Ups(source="nut"))
    assert _ON_BATTERY in _as_stacks_user(lambda: _left(state))


def test_a_file_that_cannot_be_read_takes_nothing_from_the_others(state: StateDir) -> None:
    """It is told which part is blind."""
    UpsFolder.of(state).textfile.mkdir(parents=True)
    told = _left(state)
    assert _FAILURES in told
    assert b'dreamseed_collector_up{part="backups"} 1.0' in told
    assert b'dreamseed_collector_up{part="ups"} 0.0' in told
