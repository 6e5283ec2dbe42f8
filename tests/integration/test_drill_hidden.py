"""A clean place's process finds nothing of the source, though it runs under the same account."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.drill import hidden as module
from dreamseed_cli.drill.hidden import Hidden, hidden
from dreamseed_cli.drill.stage import Wish
from dreamseed_cli.profile.backup import Backup


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The source's folder: a secret that only its owner may read, the store and the drill's scratch in it."""
    home = tmp_path / "home"
    for name in ("store", "drills/scratch"):
        (home / name).mkdir(parents=True)
        (home / name / "kept").write_text(f"kept in {name}\n")
    secret = home / "key.txt"
    secret.touch(mode=0o600)
    secret.write_text("AGE-SECRET-KEY\n")
    return home


def _place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Hidden:
    monkeypatch.setenv("DREAMSEED_STATE_DIR", str(home / "state"))
    wish = Wish(Settings(Backup(store=f"local:{home / 'store'}"), home), home / "key.txt")
    return hidden(wish, home / "drills/scratch")


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_a_secret_of_the_source_is_not_there_for_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for its very owner; outside the place everything is as it was."""
    place = _place(home, monkeypatch)
    assert place.folders == (home,)
    assert str(home) in place.words
    read = ["cat", str(home / "key.txt")]
    assert _run(read).stdout == "AGE-SECRET-KEY\n"
    inside = _run(place.wrap(read))
    assert (inside.returncode, inside.stdout) == (1, "")
    assert "No such file" in inside.stderr
    assert _run(read).stdout == "AGE-SECRET-KEY\n"


def test_what_it_needs_is_there_though_it_lies_below(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store and the drill's own folder, where they always were; what it writes there is really there."""
    place = _place(home, monkeypatch)
    scratch = home / "drills/scratch"
    script = f"cat {home}/store/kept {scratch}/kept && echo done > {scratch}/out && ls -A {home}"
    inside = _run(place.wrap(["sh", "-c", script]))
    assert inside.returncode == 0, inside.stderr
    assert inside.stdout.split("\n") == ["kept in store", "kept in drills/scratch", "drills", "store", ""]
    assert (scratch / "out").read_text() == "done\n"


def test_where_nothing_can_be_hidden_the_drill_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on as before."""
    monkeypatch.setattr(module, "_UNSHARE", ("false",))
    place = _place(home, monkeypatch)
    assert place.wrap(["cat", "x"]) == ["cat", "x"]
    assert "were not hidden from it: unshare(1) failed" in place.words


def test_a_namespace_in_which_nothing_can_be_mounted_hides_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As AppArmor has it on Ubuntu: the drill would fail at its first mount, and tell of a broken backup."""
    refuses = tmp_path / "bin/mount"
    refuses.parent.mkdir()
    refuses.write_text("#!/bin/sh\necho 'mount: permission denied' >&2\nexit 32\n")
    refuses.chmod(0o755)
    monkeypatch.setenv("PATH", str(refuses.parent), prepend=os.pathsep)
    place = _place(home, monkeypatch)
    assert place.wrap(["cat", "x"]) == ["cat", "x"]
    assert "were not hidden from it: mount: permission denied" in place.words


def test_the_program_itself_is_never_hidden(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout in the state folder would hide what has to run."""
    monkeypatch.setattr("sys.prefix", str(home / "venv"))
    assert _place(home, monkeypatch).folders == ()
