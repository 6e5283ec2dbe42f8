"""What all users of one process share: the errand, the file of samples, the way to the gateway."""

from __future__ import annotations

import itertools
import os
import random
from typing import TYPE_CHECKING, Any

from dreamseed_cli.bench.locust_users.plan import Errand, Kind
from dreamseed_cli.bench.locust_users.samples import Recorder

if TYPE_CHECKING:
    from dreamseed_cli.bench.locust_users.grpc_line import GrpcLine

_TOPICS = ("photosynthesis", "fractions", "the Joseon dynasty", "electric circuits", "the past perfect")


class Desk:
    """For the worker of number `index`. Raises KeyError if the API key's variable is not set."""

    def __init__(self, errand: Errand, index: int, recorder: Recorder, line: GrpcLine | None) -> None:
        self.errand = errand
        self.recorder = recorder
        self.line = line
        self.pause_s = errand.plan.pause_s
        self._index = index
        self._users = itertools.count()
        self._prompts = itertools.count()
        self._kinds = list(errand.plan.mix)
        self._weights = list(itertools.accumulate(errand.plan.mix.values()))
        # No cache may answer: every generation is one.
        self.ai_headers = {"cache-control": "no-cache"}
        if errand.api_key_env is not None:
            self.ai_headers["authorization"] = f"Bearer {os.environ[errand.api_key_env]}"

    def enter(self) -> int:
        """A new user's number, unique over all processes."""
        return next(self._users) * self.errand.plan.processes + self._index

    def front(self, user: int) -> str:
        """The front that this user speaks to."""
        return self.errand.fronts[user % len(self.errand.fronts)]

    def luck(self, user: int) -> random.Random:
        """The user's own random numbers: the same in every run of the same seed."""
        return random.Random(f"{self.errand.plan.seed}/{user}")  # noqa: S311 - load, not secrets

    def choose(self, luck: random.Random) -> Kind:
        return luck.choices(self._kinds, cum_weights=self._weights)[0]

    def prompt(self, luck: random.Random) -> str:
        """Begins like no other of this run or another, so that no engine has seen a part of it."""
        number = f"{next(self._prompts)}-{self._index}-{self.errand.nonce}"
        return f"{number}: explain {luck.choice(_TOPICS)} to a learner of {luck.randint(8, 18)} years."

    def chat_body(self, prompt: str, *, stream: bool) -> dict[str, Any]:
        """A request of OpenAI's chat interface."""
        body: dict[str, Any] = {
            "model": self.errand.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self.errand.plan.answer_tokens,
        }
        if self.errand.force_length:
            body["ignore_eos"] = True
        if self.errand.ours:
            body["priority"] = "standard"  # as the users of gRPC; the front's default is PREMIUM
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})

    @property
    def wanted_tokens(self) -> int | None:
        """The length that answers must have; None where it cannot be forced."""
        return self.errand.plan.answer_tokens if self.errand.force_length else None
