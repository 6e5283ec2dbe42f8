"""The argv of one emulated engine."""

from __future__ import annotations

import sys
from pathlib import Path

from dreamseed_cli.engine.types import Command


def emulated_command(config_file: Path, socket: Path) -> Command:
    """How to start an emulated engine that listens on `socket`.

    config_file: the `EmulatedEngine` of a profile as JSON (`model_dump_json()`).
    """
    return Command(
        argv=(
            sys.executable,
            "-m",
            "dreamseed_cli.engine.emulated",
            "--config",
            str(config_file),
            "--uds",
            str(socket),
        )
    )
