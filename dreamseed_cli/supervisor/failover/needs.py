"""What help needs of this machine, to be told before the night it is called."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from dreamseed_cli.core.errors import DreamseedError, MissingError
from dreamseed_cli.profile.resilience import Failover


def failover_needs(settings: Failover) -> Iterator[DreamseedError]:
    """What is missing: the hooks' programs (a rehearsal runs none) and the API key."""
    if not settings.urls:
        return
    for name, argv in (("start", settings.start), ("stop", settings.stop)):
        if argv and not settings.dry_run and shutil.which(argv[0]) is None:
            yield MissingError(
                f"the program '{argv[0]}' is not there",
                place=f"failover.{name}",
                remedy="Install it, or name another command.",
            )
    if settings.api_key_env and not os.environ.get(settings.api_key_env):
        yield MissingError(
            "the help's API key is not set",
            place=f"${settings.api_key_env}",
            remedy=f"Set {settings.api_key_env} and start again.",
        )
