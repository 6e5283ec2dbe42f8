"""The Korean pages say what the English ones say, as far as a program can tell."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_RUNBOOKS = ROOT / "docs" / "runbooks"
_PAIRS = [
    (ROOT / "README.md", ROOT / "README.ko.md"),
    *((_RUNBOOKS / korean.name, korean) for korean in sorted((_RUNBOOKS / "ko").glob("*.md"))),
]


def _commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def _names(page: Path) -> set[str]:
    """Commands, settings, codes: all that stands in backticks outside of blocks."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return set(re.findall(r"`([^`]+)`", text))


def _settings(page: Path) -> list[str]:
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_there_are_korean_pages() -> None:
    """The README, and what is needed at 3 a.m."""
    assert {korean.name for _, korean in _PAIRS} >= {"README.ko.md", "failures.md", "restore.md"}


@pytest.mark.parametrize(("english", "korean"), _PAIRS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_korean_page_has_the_same_commands_and_names(english: Path, korean: Path) -> None:
    """A command, a reason code or a default that changes on one page changes on the other."""
    assert _commands(korean) == _commands(english)
    assert _names(korean) == _names(english)
    assert _settings(korean) == _settings(english)


@pytest.mark.parametrize(("english", "korean"), _PAIRS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_two_languages_lead_to_each_other(english: Path, korean: Path) -> None:
    """By a link at the top of each."""
    for page, other in ((english, korean), (korean, english)):
        top = "\n".join(page.read_text(encoding="utf-8").splitlines()[:4])
        targets = re.findall(r"\]\(([^)]+)\)", top)
        assert other in {(page.parent / target).resolve() for target in targets}
