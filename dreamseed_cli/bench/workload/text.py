"""Readable prompts of about the wanted length. Pure."""

from __future__ import annotations

import itertools
import random

BYTES_PER_TOKEN = 4
"""Of English prose, by OpenAI's rule of thumb. The count that is reported comes from the server."""

_TOPICS = (
    "photosynthesis quadratic-equations the-water-cycle fractions the-French-Revolution chemical-bonds"
    " Newton's-second-law probability the-human-heart verb-tenses plate-tectonics electric-circuits"
    " percentages the-solar-system cell-division linear-functions acids-and-bases the-Silk-Road"
    " sound-waves geometry-of-triangles supply-and-demand genetics map-reading prime-numbers"
)
_STATEMENTS = (
    "In the chapter on {}, one student compares two results and finds a difference of three.",
    "The lesson about {} begins with an example from daily life.",
    "A common mistake with {} is to forget the unit at the end.",
    "Consider {}: which of the four statements below is true, and why?",
    "The teacher draws a table about {} and leaves two of its fields empty.",
    "Before the test on {}, the class solves six exercises together.",
    "The second part of the task is about {} and counts for half of the points.",
    "State the rule behind {} in one sentence, then use it once.",
    "My answer on {} was that the value doubles whenever the other one is halved.",
    "In last week's exercise on {}, 14 of 20 answers were correct.",
    "Show with a small drawing how {} works, and label every part of it.",
    "Without a calculator, estimate the result for {} and say how sure you are.",
)
_SENTENCES = tuple(
    statement.format(topic.replace("-", " "))
    for topic, statement in itertools.product(_TOPICS.split(), _STATEMENTS)
)
_SHORTEST = min(map(len, _SENTENCES))


def write_prompt(rng: random.Random, opening: str, tokens: int) -> str:
    """`opening` and sentences of exams after it, about `tokens` tokens together; at least `opening`."""
    room = tokens * BYTES_PER_TOKEN - len(opening) - 1
    if room < _SHORTEST // 2:
        return opening
    sentences = " ".join(rng.choices(_SENTENCES, k=room // _SHORTEST + 1))
    if len(sentences) > room:
        sentences = sentences[: sentences.rindex(" ", 0, room)].rstrip(".,?:") + "."
    return f"{opening} {sentences}"


def count_tokens(text: str) -> int:
    """About how many tokens a text of ours has."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)
