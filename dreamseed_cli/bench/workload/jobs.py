"""From a workload to single requests: the same ones for the same seed, however many processes make them."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

from dreamseed_cli.bench.records import Job
from dreamseed_cli.bench.shapes import Cell
from dreamseed_cli.bench.workload.kind import Kind
from dreamseed_cli.bench.workload.text import count_tokens, write_prompt
from dreamseed_cli.bench.workload.trace import TraceEntry

_NUMBERS = 1 << 40


class Workload:
    """One or several kinds of requests and their shares, which add up to 1."""

    def __init__(self, spec: str, kinds: Sequence[tuple[Kind, float]]) -> None:
        self.spec = spec
        self._sources = [_Source(kind) for kind, _ in kinds]
        self._shares = [share for _, share in kinds]
        self._bounds = list(accumulate(self._shares))[:-1]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What it is made of."""
        return tuple(source.kind for source in self._sources)

    @property
    def mean_output_tokens(self) -> float:
        """The average answer, for a cell that forces no length."""
        return self._mean([kind.output_tokens.mean for kind in self.kinds])

    @property
    def mean_prompt_tokens(self) -> float:
        """The average prompt with its system prompt, for a cell that forces no length; about."""
        return self._mean([kind.prompt_tokens.mean for kind in self.kinds])

    def job(self, cell: Cell, number: int, entry: TraceEntry | None = None) -> Job:
        """The cell's request of this number: a pure function of the cell's seed and the number.

        Its prompt begins with the number and the cell's nonce, and so does its system prompt: no two have
        more in common than the chat template. In a cell without a nonce they come from a catalogue, may be
        cached, and belong to the seed: the same seed asks the same questions. entry: a trace's, whose lengths
        count; a prompt that it brings is sent as it is, without a system prompt, and may be cached.
        """
        # One integer for both, so that no two pairs share a stream.
        rng = random.Random(cell.seed * _NUMBERS + cell.drawn + number)  # noqa: S311 - text, not secrets
        source = self._pick(rng, entry.workload if entry else "")
        return source.job(cell, number, rng, entry)

    def _pick(self, rng: random.Random, name: str) -> _Source:
        drawn = self._sources[bisect_right(self._bounds, rng.random())]
        return next((source for source in self._sources if source.kind.name == name), drawn)

    def _mean(self, values: Sequence[float]) -> float:
        return sum(value * share for value, share in zip(values, self._shares, strict=True))


class _Source:
    """Makes the requests of one kind."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    @cached_property
    def _popularity(self) -> list[float]:
        exponent = -self.kind.zipf_exponent
        return list(accumulate(rank**exponent for rank in range(1, self.kind.catalogue_size + 1)))

    def job(self, cell: Cell, number: int, rng: random.Random, entry: TraceEntry | None) -> Job:
        kind = self.kind
        mark = f"{number}-{cell.nonce}"
        if not cell.nonce:
            rank = self._rank(rng)
            mark = f"Exercise {rank + 1}."
            # The rank alone decides from here on: length, text and, through them, the cache's key.
            rng = random.Random(f"{kind.name}/{cell.seed}/{rank}")  # noqa: S311 - text, not secrets
        drawn = kind.prompt_tokens.draw(rng), kind.output_tokens.draw(rng)
        if entry is not None:
            drawn = entry.prompt_tokens, entry.output_tokens
        system, prompt = self._texts(rng, cell, mark, cell.prompt_tokens or drawn[0])
        brought = entry.prompt if entry is not None else None
        if brought is not None:
            system, prompt = None, brought
        return Job(
            number=number,
            workload=(entry.workload if entry else "") or kind.name,
            prompt=prompt,
            wanted_tokens=cell.output_tokens or drawn[1],
            system_prompt=system,
            temperature=kind.temperature,
            top_p=kind.top_p,
            priority=kind.priority,
            bypass_cache=bool(cell.nonce) and brought is None,
        )

    def _rank(self, rng: random.Random) -> int:
        """How popular the prompt is, 0 the most."""
        at = rng.random() * self._popularity[-1]
        return min(bisect_right(self._popularity, at), len(self._popularity) - 1)

    def _texts(self, rng: random.Random, cell: Cell, mark: str, tokens: int) -> tuple[str | None, str]:
        """System prompt and prompt, of about so many tokens together.

        A marked system prompt is shortened to its mark where it would take up half of the request. It is
        never left out: many chat templates then put in one of their own, which all prompts would share.
        """
        system = self.kind.system_prompt
        if cell.nonce:
            system = f"{mark} {system}" if system else mark
            if 2 * count_tokens(system) > tokens:
                system = mark
        left = tokens - count_tokens(system or "")
        opening = f"{mark} {self.kind.opening}"
        if count_tokens(opening) > left:
            opening = mark
        return system, write_prompt(rng, opening, left)
