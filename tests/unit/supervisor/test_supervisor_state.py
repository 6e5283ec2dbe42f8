"""What a stack writes about itself, and the lock that keeps a second one out."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id
from dreamseed_cli.supervisor.state import (
    ChildRecord,
    SupervisorRecord,
    forget,
    only_supervisor,
    read_children,
    read_supervisor,
    write_children,
    write_supervisor,
)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A state folder, made."""
    folder = StateDir(tmp_path / "s")
    folder.create()
    return folder


def _own_identity() -> ProcessIdentity:
    identity = ProcessIdentity.of(os.getpid())
    assert identity
    return identity


def _record(**changes: object) -> SupervisorRecord:
    values = {"identity": _own_identity(), "boot_id": boot_id(), "started_at": 1.5, "profile": "laptop"}
    return SupervisorRecord(**{**values, "version": "1", **changes})  # type: ignore[arg-type]


def test_records_come_back_as_written(state: StateDir) -> None:
    """Both files survive the way to the disk and back, floats exactly."""
    record = _record(gateway="127.0.0.1:50051")
    child = ChildRecord("r0", "engine", "unix:/x", _own_identity(), (_own_identity(),), container="c")
    write_supervisor(state, record)
    write_children(state, [child])
    assert read_supervisor(state) == record
    assert read_children(state) == (child,)


def test_a_record_proves_a_living_supervisor(state: StateDir) -> None:
    """Alive is who has the pid, the start time and the boot; nobody else."""
    assert _record().alive()
    own = _own_identity()
    assert not _record(identity=ProcessIdentity(own.pid, own.started - 1)).alive()
    assert not _record(boot_id="another").alive()


def test_children_of_another_boot_are_nobody(state: StateDir) -> None:
    """After a reboot the same pid and start time may be anyone's."""
    write_children(state, [ChildRecord("r0", "engine", "unix:/x", _own_identity(), (_own_identity(),))])
    file = state.root / "children.json"
    data = msgspec.json.decode(file.read_bytes())
    data["boot_id"] = "another"
    file.write_bytes(msgspec.json.encode(data))
    assert read_children(state) == ()


def test_nothing_written_or_unreadable_reads_as_nothing(state: StateDir) -> None:
    """A fresh folder, a forgotten run and another version's file are all no record."""
    assert read_supervisor(state) is None
    write_supervisor(state, _record())
    forget(state)
    assert read_supervisor(state) is None
    (state.root / "supervisor.json").write_text('{"pid": 1}')
    assert read_supervisor(state) is None


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """The old content stays whole, and no temporary file stays behind."""
    path = tmp_path / "f.json"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_lock_refuses_a_second_supervisor_and_names_the_first(state: StateDir) -> None:
    """It says which pid and profile run and how to stop them."""
    write_supervisor(state, _record())
    with only_supervisor(state), pytest.raises(UsageError) as refusal, only_supervisor(state):
        pass
    assert str(os.getpid()) in str(refusal.value)
    assert "laptop" in str(refusal.value)
    assert "dreamseed stop" in refusal.value.remedy


def test_the_lock_of_a_killed_process_is_free(state: StateDir) -> None:
    """SIGKILL leaves no lock behind, also while a child of the killed one lives on."""
    program = (
        "import subprocess, sys, pathlib\n"
        "from dreamseed_cli.core.paths import StateDir\n"
        "from dreamseed_cli.supervisor.state import only_supervisor\n"
        "with only_supervisor(StateDir(pathlib.Path(sys.argv[1]))):\n"
        "    child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "    print(child.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(state.root)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        child = ProcessIdentity.of(int(holder.stdout.readline()))
        with pytest.raises(UsageError), only_supervisor(state):
            pass
        holder.kill()
        holder.wait()
    assert child
    try:
        assert child.alive()
        with only_supervisor(state):
            pass
    finally:
        os.kill(child.pid, 9)


def test_an_unwritable_folder_is_a_clear_refusal(tmp_path: Path) -> None:
    """The message names the folder and the option that chooses another."""
    (tmp_path / "s").write_text("a file where a folder should be")
    with pytest.raises(UsageError, match="--state-dir"), only_supervisor(StateDir(tmp_path / "s")):
        pass


def test_a_lock_that_root_made_is_locked_all_the_same() -> None:
    """Root watches the UPS, and may stop the box before the stack's user ever served."""
    with tempfile.TemporaryDirectory() as folder:
        state = StateDir(Path(folder))
        (state.root / "supervisor.lock").touch(mode=0o444)
        state.root.chmod(0o755)
        user = os.geteuid()
        if user == 0:
            os.seteuid(pwd.getpwnam("nobody").pw_uid)
        try:
            with (
                only_supervisor(state),
                pytest.raises(UsageError, match="already runs"),
                only_supervisor(state),
            ):
                pass
        finally:
            os.seteuid(user)
