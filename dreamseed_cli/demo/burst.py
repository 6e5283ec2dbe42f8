"""A small burst of concurrent questions, and what it took."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from dreamseed_cli.gateway.client import Answer, GatewayClient

QUESTIONS = (
    "Why is the sky blue?",
    "What is a prime number?",
    "Name three planets.",
    "What does a verb do?",
    "How do plants eat?",
    "What is 7 times 8?",
    "Who wrote Hamlet?",
    "What is a fraction?",
)
MAX_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Burst:
    """Concurrent answers. Times are seconds, measured at the client."""

    answers: tuple[Answer, ...]
    elapsed_s: float

    @property
    def tokens(self) -> int:
        return sum(answer.tokens for answer in self.answers)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.elapsed_s

    @property
    def ttft_s(self) -> Sequence[float]:
        """Times to first token of the answers that had any text, shortest first."""
        return sorted(answer.ttft_s for answer in self.answers if answer.ttft_s is not None)

    @property
    def median_ttft_s(self) -> float:
        return median(self.ttft_s)

    def answers_by_replica(self) -> Counter[str]:
        """How many answers each replica gave."""
        return Counter(answer.replica for answer in self.answers)


async def run_burst(client: GatewayClient, questions: Sequence[str] = QUESTIONS) -> Burst:
    """Ask all questions at once and wait for every answer; the first failure ends it."""
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_answer(client, question)) for question in questions]
    return Burst(tuple(task.result() for task in tasks), time.perf_counter() - start)


async def _answer(client: GatewayClient, question: str) -> Answer:
    stream = client.ask(question, max_tokens=MAX_TOKENS, timeout_s=120.0)
    async for _ in stream:
        pass
    return stream.answer
