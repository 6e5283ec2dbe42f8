"""The state folder: where it is, and what it refuses."""

from pathlib import Path

import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.paths import StateDir


def test_an_option_beats_the_environment_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--state-dir, then DREAMSEED_STATE_DIR, then the user's state folder."""
    monkeypatch.setenv("DREAMSEED_STATE_DIR", str(tmp_path / "env"))
    assert StateDir.locate(tmp_path / "option").root == tmp_path / "option"
    assert StateDir.locate().root == tmp_path / "env"
    monkeypatch.delenv("DREAMSEED_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert StateDir.locate().root == tmp_path / "xdg" / "dreamseed"


def test_its_folders_are_for_their_owner_only(tmp_path: Path) -> None:
    """Sockets without access control live there."""
    state = StateDir(tmp_path / "state")
    state.create()
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in (state.root, state.socket_dir, state.log_dir))


def test_a_path_too_long_for_sockets_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """The kernel takes 107 bytes; better said here than by an engine that cannot bind."""
    with pytest.raises(UsageError, match=r"too long for Unix sockets .* takes 107"):
        StateDir(tmp_path / ("x" * 120)).create()


def test_a_folder_that_cannot_be_made_names_itself(tmp_path: Path) -> None:
    """A file in the way is named, with the remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made") as caught:
        StateDir(tmp_path / "file" / "state").create()
    assert "--state-dir" in caught.value.remedy
