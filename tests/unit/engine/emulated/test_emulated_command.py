"""The argv of the emulated engine."""

from __future__ import annotations

import sys
from pathlib import Path

from dreamseed_cli.engine.emulated.command import emulated_command


def test_command_runs_this_python() -> None:
    """The engine runs in the interpreter that runs the tool, and needs nothing from the environment."""
    command = emulated_command(Path("/s/r0.json"), Path("/s/r0.sock"))
    assert command.argv == (
        *(sys.executable, "-m", "dreamseed_cli.engine.emulated"),
        *("--config", "/s/r0.json", "--uds", "/s/r0.sock"),
    )
    assert command.env == {}
