"""How long to wait between attempts that go on for ever, and saying so once."""

from __future__ import annotations

import random
import time

import structlog

from dreamseed_cli.core.errors import DreamseedError

_FIRST_S = 0.1
_LONGEST_S = 5.0

_log = structlog.get_logger(__name__)


class Backoff:
    """Doubles the wait after every failure. what: the work, as the log names it.

    Each new cause is logged once, and the first success after it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._wait_s = _FIRST_S
        self._since: float | None = None
        self._cause = ""

    def went_well(self) -> None:
        """It works, maybe again."""
        if self._since is not None:
            _log.info("goes on", what=self._what, after_s=round(time.monotonic() - self._since, 1))
        self._since, self._cause, self._wait_s = None, "", _FIRST_S

    def failed(self, error: Exception) -> float:
        """How long to wait before the next attempt, in seconds."""
        self._since = time.monotonic() if self._since is None else self._since
        told = error.to_data() if isinstance(error, DreamseedError) else {"cause": str(error)}
        if told["cause"] != self._cause:
            self._cause = told["cause"]
            _log.warning("waits", what=self._what, **told)
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, _LONGEST_S)
        return wait_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
