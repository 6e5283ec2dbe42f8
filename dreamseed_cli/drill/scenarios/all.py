"""Every scenario by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.drill.scenarios.bad_deploy import BadDeploy
from dreamseed_cli.drill.scenarios.corrupt_backup import CorruptBackup
from dreamseed_cli.drill.scenarios.failover import Failover
from dreamseed_cli.drill.scenarios.lost_database import LostDatabase
from dreamseed_cli.drill.scenarios.lost_host import LostHost
from dreamseed_cli.drill.stage import Scenario
from dreamseed_cli.profile.drill import ScenarioName

SCENARIOS: Final[Mapping[str, Scenario]] = {
    one.name: one for one in (LostHost(), LostDatabase(), BadDeploy(), CorruptBackup(), Failover())
}


def choose(name: str) -> Scenario:
    """UsageError if there is none of this name."""
    if name not in SCENARIOS:
        raise UsageError(
            f"there is no drill '{name}'", place="dreamseed drill", remedy=f"There are: {', '.join(names())}."
        )
    return SCENARIOS[name]


def names() -> tuple[str, ...]:
    """As a profile names them."""
    return get_args(ScenarioName)
