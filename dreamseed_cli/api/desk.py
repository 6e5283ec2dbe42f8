"""What all completions share: the way to the gateway, and who may have the fallback instead."""

from __future__ import annotations

import time

from dreamseed_cli.api.caller import Caller, RequestIds
from dreamseed_cli.api.courier import Courier
from dreamseed_cli.api.errors import ApiError, explain
from dreamseed_cli.api.fallback.answers import Fallback
from dreamseed_cli.api.fallback.seen import SeenKeys
from dreamseed_cli.api.line import GatewayAway, GatewayFailed, Line
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.settings import ApiSettings
from dreamseed_cli.gateway.events.ids import EventIds


class Desk:
    """One for a front."""

    def __init__(
        self,
        settings: ApiSettings,
        line: Line,
        courier: Courier,
        metrics: ApiMetrics,
        fallback: Fallback | None,
    ) -> None:
        self.settings = settings
        self.line = line
        self.metrics = metrics
        self.courier = courier
        self.ids = RequestIds()
        self.event_ids = EventIds()
        self._fallback = fallback
        self._seen = SeenKeys()

    def note(self, caller: Caller, failed: GatewayFailed | None = None) -> None:
        """Remember whether the gateway took the caller's key."""
        if self._fallback is None or caller.key is None:
            return
        if failed is None:
            self._seen.note(caller.key, time.monotonic())
        elif explain(failed.failure).status in {401, 403}:
            self._seen.forget(caller.key)

    def patient(self, caller: Caller) -> bool:
        """Whether a request waits for a gateway that is away: nobody else would answer this caller."""
        return self._fallback is None or not self._may_fall_back(caller)

    def fallback_for(self, caller: Caller, away: GatewayAway) -> Fallback:
        """Who answers instead of the gateway. Raises ApiError 503 if nobody does for this caller."""
        if self._fallback is None:
            raise explain(away.failure)
        if self._may_fall_back(caller):
            return self._fallback
        self.metrics.fallback.labels("unknown_key").inc()
        raise ApiError(
            503,
            "the service cannot reach its engines, and cannot check this key meanwhile",
            code="unavailable",
            retry_after_s=5,
            reason="unknown_key",
        )

    def _may_fall_back(self, caller: Caller) -> bool:
        known = caller.key is None or self._seen.knows(caller.key, time.monotonic())
        return known or self.settings.fallback_for == "any_key"
