"""Prompts with one beginning go where it is cached."""

from __future__ import annotations

from dreamseed_cli.engine.types import GenerationRequest, Turn
from dreamseed_cli.gateway.admission.affinity import Affinity, prefix_keys


def _request(prompt: str, **fields: object) -> GenerationRequest:
    return GenerationRequest("id", prompt, 10, 0.0, 1.0, **fields)  # type: ignore[arg-type]


def test_a_beginning_is_worth_remembering_from_256_characters_on() -> None:
    """Short prompts have no key; a long one has a key for its first 256 and for its first 2,048."""
    assert prefix_keys(_request("x" * 255)) == ()
    assert len(prefix_keys(_request("x" * 256))) == 1
    assert len(prefix_keys(_request("x" * 2048))) == 2


def test_the_beginning_is_system_prompt_history_and_prompt() -> None:
    """A conversation's next turn has its last one's key; a raw prompt is not preceded by anything."""
    first = _request("Why? " * 100, system_prompt="Be brief.")
    turns = (Turn("user", first.prompt), Turn("assistant", "Because."))
    second = _request("And then?", system_prompt="Be brief.", history=turns)
    assert prefix_keys(first) == prefix_keys(second) != ()
    assert prefix_keys(_request(first.prompt, system_prompt="Be brief.", raw=True)) != prefix_keys(first)


def test_the_longest_known_beginning_counts() -> None:
    """Who holds the longer beginning is preferred to who holds only the shorter one."""
    affinity = Affinity()
    affinity.remember((1, 2), "r0")
    affinity.remember((3, 2), "r1")
    assert affinity.homes((1, 2)) == {"r0"}
    assert affinity.homes((4, 2)) == {"r0", "r1"}
    assert affinity.homes((4, 5)) == frozenset()


def test_memory_is_bounded_and_lost_caches_are_forgotten() -> None:
    """The least recently used beginnings go; a replica that left or restarts holds none."""
    affinity = Affinity()
    for prefix in range(10_000):
        affinity.remember((prefix,), "r0")
    assert len(affinity) == 8192
    assert affinity.homes((0,)) == frozenset()
    affinity.remember((9_999,), "r1")
    affinity.forget(frozenset({"r0"}))
    assert affinity.homes((9_999,)) == {"r1"}
    assert len(affinity) == 1
