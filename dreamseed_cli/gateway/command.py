"""How the gateway process is started: a pure function from its configuration file to its command."""

from __future__ import annotations

import sys
from pathlib import Path

from dreamseed_cli.engine.types import Command


def gateway_command(config_file: Path) -> Command:
    """The gateway with the GatewaySettings (JSON) in `config_file`.

    It exits with 0 after SIGTERM and a drain, else with a DreamseedError's exit code. It does not watch its
    parent: calls go on when the supervisor is gone.
    """
    return Command((sys.executable, "-m", "dreamseed_cli.gateway", "--config", str(config_file)))
