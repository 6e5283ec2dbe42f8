"""The engines of the help: whether each of them generates tokens, and what the gateway is told of it."""

from __future__ import annotations

import os
import time

from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.openai_api import Api
from dreamseed_cli.engine.types import Endpoint, EngineBusy, EngineError
from dreamseed_cli.gateway.settings import ReplicaTarget
from dreamseed_cli.profile.resilience import Failover
from dreamseed_cli.supervisor.failover.snapshot import HelpEngine

CANARY_EVERY_S = 30.0
"""How often an engine that serves must generate a token: it costs little, and not nothing."""
CANARY_TIMEOUT_S = 30.0
"""How long it may take for it: an engine under load answers late, and is no reason to look away."""


class RemoteHelp:
    """One engine elsewhere. Make it inside a running event loop, close it at the end."""

    def __init__(self, name: str, url: str, settings: Failover, *, model: str, api: Api) -> None:
        self.name = name
        self.answers = False
        self._url = url
        self._model = settings.model or model
        self._key_env = settings.api_key_env
        key = os.environ.get(self._key_env) if self._key_env else None
        self._keyless = bool(self._key_env) and not key
        self._client = EngineClient(
            Endpoint(url=url), model=self._model, api=api, usage_per_chunk=False, api_key=key
        )
        self._joined = False
        self._obstacle = ""
        self._token_at = 0.0
        self._tells_health = False

    async def probe(self) -> None:
        """Look whether it answers: by its health, where it tells it, and by a token now and then.

        One that does not answer is asked for a token each time; one that is too busy for it answers.
        """
        if self._keyless:
            self._obstacle = f"its API key is not set: set {self._key_env} and start again"
            return
        due = time.monotonic() - self._token_at >= CANARY_EVERY_S
        if self.answers and not due and (not self._tells_health or await self._client.health()):
            return
        await self._ask_for_token()

    async def idle(self) -> bool | None:
        """Whether it has nothing to do; None where it does not tell."""
        try:
            metrics = await self._client.metrics()
        except EngineError:
            return None
        return None if metrics is None else metrics.running + metrics.waiting == 0

    def forget(self) -> None:
        """It is sent home: what was known of it says nothing of the next time."""
        self.answers = self._joined = False
        self._obstacle = ""

    def target(self, *, draining: bool) -> ReplicaTarget | None:
        """It as the gateway is to see it; None before its first token."""
        if not self._joined:
            return None
        ready = self.answers and not draining
        state = "draining" if draining else "ready" if ready else "unreachable"
        return ReplicaTarget(
            name=self.name,
            endpoint=self._url,
            model=self._model,
            ready=ready,
            state=state,
            reason="failover",
            elsewhere=True,
            api_key_env=self._key_env,
        )

    def snapshot(self) -> HelpEngine:
        return HelpEngine(self.name, self._url, self.answers, self._obstacle, self._client.simulated)

    async def close(self) -> None:
        await self._client.close()

    async def _ask_for_token(self) -> None:
        try:
            await self._client.first_token(CANARY_TIMEOUT_S)
        except EngineBusy as error:
            self._obstacle = str(error)
            self._token_at = time.monotonic()
        except EngineError as error:
            self.answers = False
            self._obstacle = str(error)
        else:
            self._token_at = time.monotonic()
            self._obstacle = ""
            if not self._joined:
                self._tells_health = await self._client.health()
            self.answers = self._joined = True
