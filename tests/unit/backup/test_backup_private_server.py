"""The server that a restore recovers with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dreamseed_cli.backup.physical.recovery import Goal, PrivateServer, RecoveryFailed


def test_a_server_whose_socket_was_removed_is_not_waited_for(tmp_path: Path) -> None:
    """A cleaner of temporary folders took it: without this, a restore would wait for a day."""
    server = PrivateServer(tmp_path / "data", tmp_path / "gone", "postgres", ())
    with subprocess.Popen(["sleep", "60"]) as server.process:
        with pytest.raises(RecoveryFailed, match="removed the folder") as failed:
            server.wait(Goal(), limit_s=86_400.0)
        server.process.kill()
    assert failed.value.place == str(tmp_path / "gone")
