"""How the relay process is started: a pure function from its configuration file to its command."""

from __future__ import annotations

import sys
from pathlib import Path

from dreamseed_cli.engine.types import Command


def relay_command(config_file: Path) -> Command:
    """The relay with the RelaySettings (JSON) in `config_file`.

    It exits with 0 after SIGTERM, else with a DreamseedError's exit code. It may be killed at any moment:
    what Kafka has not acknowledged is sent again.
    """
    return Command((sys.executable, "-m", "dreamseed_cli.gateway.events.relay", "--config", str(config_file)))
