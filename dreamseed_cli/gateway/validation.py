"""Is a request in order? A pure function from the wire's message to the engine's request."""

from __future__ import annotations

import itertools
import math
import re
import uuid
from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import msgspec

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.engine.types import GenerationRequest, Turn
from dreamseed_cli.gateway.call import PriorityClass, Workload, workload_of
from dreamseed_cli.gateway.proto.llm_pb2 import PREMIUM, GenerateRequest
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.profile.schema import Generation

_LONGEST_USER_ID = 256
_MOST_STOPS = 4  # vLLM's and OpenAI's
_LONGEST_STOP = 256
_MOST_TURNS = 256
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ROLES = frozenset({"user", "assistant"})


class InvalidArgument(UsageError):
    """A field of a request is out of its range: the caller can mend it."""

    kind: ClassVar[str] = "invalid_argument"

    def __init__(self, field: str, cause: str) -> None:
        super().__init__(f"{field} {cause}", place="")


class Wish(msgspec.Struct, frozen=True, gc=False):
    """A request in order, before anybody asked whether the caller may have it."""

    request: GenerationRequest
    user_id: str
    priority: PriorityClass
    workload: Workload
    use_cache: bool


class Validator:
    """Checks requests against one service's bounds and fills in its defaults (§B3, §D1)."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._served_name = settings.served_name
        # Unique over all gateways and their restarts, and far cheaper than randomness for each request.
        self._id_prefix = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._max_model_len = settings.max_model_len
        self.take_rules(settings.gateway.generation)

    def take_rules(self, rules: Generation) -> None:
        """Check requests to come against these bounds."""
        self._generation = rules
        self._longest_answer = min(rules.max_tokens_limit, self._max_model_len or rules.max_tokens_limit)

    def check(self, message: GenerateRequest) -> Wish:
        """The request with its defaults filled in. Raises InvalidArgument with field, value and range.

        NUL characters pass: engines accept them. Whether the prompt fits the context only the engine's
        tokenizer knows, and it says so itself.
        """
        if not message.prompt or message.prompt.isspace():
            raise InvalidArgument("prompt", "is empty or only white space: give it a text")
        if len(message.user_id) > _LONGEST_USER_ID:
            raise InvalidArgument(
                "user_id", f"has {len(message.user_id)} characters: at most {_LONGEST_USER_ID}"
            )
        if not message.user_id.isprintable():
            raise InvalidArgument("user_id", "holds characters that cannot be printed")
        if message.model and message.model != self._served_name:
            raise InvalidArgument(
                "model", f"is {message.model[:100]!r}: this service has '{self._served_name}'"
            )
        request = GenerationRequest(
            request_id=self._request_id(message.request_id),
            prompt=message.prompt,
            max_tokens=self._max_tokens(message.max_tokens),
            temperature=self._temperature(message.temperature),
            top_p=self._top_p(message),
            system_prompt=self._system_prompt(message),
            seed=message.seed if message.HasField("seed") else None,
            stop=_stop(message.stop),
            history=_history(message),
            raw=message.raw,
            ignore_eos=message.ignore_eos,
        )
        return Wish(
            request=request,
            user_id=message.user_id,
            priority=_priority(message.priority),
            workload=workload_of(message.workload),
            use_cache=not message.bypass_cache,
        )

    def _request_id(self, given: str) -> str:
        if not given:
            return f"{self._id_prefix}-{next(self._numbers)}"
        if not _REQUEST_ID.fullmatch(given):
            raise InvalidArgument("request_id", "must be 1 to 128 letters, digits or any of . _ : -")
        return given

    def _max_tokens(self, value: int) -> int:
        if value == 0:
            return min(self._generation.default_max_tokens, self._longest_answer)
        if not 0 < value <= self._longest_answer:
            raise InvalidArgument(
                "max_tokens",
                f"is {value}: allowed are 1 to {self._longest_answer}, and 0 for the default of "
                f"{self._generation.default_max_tokens}",
            )
        return value

    def _temperature(self, value: float) -> float:
        value = _six_digits(value)
        if not 0 <= value <= self._generation.max_temperature:
            raise InvalidArgument(
                "temperature", f"is {value}: allowed are 0 to {self._generation.max_temperature}"
            )
        return value

    def _top_p(self, message: GenerateRequest) -> float:
        if not message.HasField("top_p"):
            return self._generation.default_top_p
        value = _six_digits(message.top_p)
        if not 0 < value <= 1:
            raise InvalidArgument("top_p", f"is {value}: allowed is above 0 and up to 1")
        return value

    def _system_prompt(self, message: GenerateRequest) -> str | None:
        if not message.HasField("system_prompt"):
            return None if message.raw else self._generation.system_prompt
        if message.raw and message.system_prompt:
            raise InvalidArgument("system_prompt", "has no place before a raw prompt: leave one of them out")
        return message.system_prompt or None


def _priority(value: int) -> PriorityClass:
    if not 0 <= value <= PREMIUM:
        raise InvalidArgument("priority", f"is {value}: allowed are BATCH 0, STANDARD 1, PREMIUM 2")
    return PriorityClass(value)


def _history(message: GenerateRequest) -> tuple[Turn, ...]:
    if not message.history:
        return ()
    if message.raw:
        raise InvalidArgument("history", "has no place before a raw prompt: leave one of them out")
    if len(message.history) > _MOST_TURNS:
        raise InvalidArgument("history", f"has {len(message.history)} turns: at most {_MOST_TURNS}")
    return tuple(_turn(index, turn.role, turn.content) for index, turn in enumerate(message.history))


def _turn(index: int, role: str, content: str) -> Turn:
    if role not in _ROLES:
        raise InvalidArgument(
            f"history[{index}].role", f"is {role[:20]!r}: allowed are 'user' and 'assistant'"
        )
    return Turn(cast("Literal['user', 'assistant']", role), content)


def _six_digits(value: float) -> float:
    """A float32 as it was meant: 0.7 arrives as 0.699999988, and a bound of 1.1 would refuse 1.1."""
    return round(value, 6) if math.isfinite(value) else value


def _stop(values: Sequence[str]) -> tuple[str, ...]:
    if not values:
        return ()
    if len(values) > _MOST_STOPS:
        raise InvalidArgument("stop", f"has {len(values)} strings: at most {_MOST_STOPS}")
    for index, value in enumerate(values):
        if not 1 <= len(value) <= _LONGEST_STOP:
            raise InvalidArgument(
                f"stop[{index}]", f"has {len(value)} characters: allowed are 1 to {_LONGEST_STOP}"
            )
    return tuple(values)
