"""Every example in the README and the runbooks is true: it parses, and what can run here, runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "runbooks").glob("*.md"))]
SAFE_VERBS = (
    "status",
    "ask",
    "logs",
    "profile",
    "db",
    "user",
    "events",
    "certs",
    "incidents",
    "reload",
    "estimates",
)
# They follow, or speak to another host.
_NOT_HERE = {"--follow", "--address"}


def _examples() -> list[list[str]]:
    """The command lines behind `$` in the pages' console blocks, as words, without their comments."""
    blocks = [b for page in PAGES for b in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    commands = (shlex.split(line, comments=True) for line in lines)
    without_variables = (tuple(dropwhile(lambda word: "=" in word, words)) for words in commands)
    return [list(words) for words in dict.fromkeys(without_variables)]


DREAMSEED = [words[1:] for words in _examples() if words[0] == "dreamseed"]
MAKE = [words[1:] for words in _examples() if words[0] == "make"]


def test_there_are_examples_of_every_verb() -> None:
    """A page whose examples are no longer found would make the tests below pass for nothing."""
    assert {words[0] for words in DREAMSEED} == {
        *SAFE_VERBS,
        "serve",
        "plan",
        "cost-sim",
        "backup",
        "restore",
        "wal",
        "schedule",
        "bench",
        "restart",
        "stop",
        "chaos",
        "demo",
        "api",
    }
    assert ["demo"] in MAKE
    assert ["test"] in MAKE


@pytest.mark.parametrize("words", DREAMSEED, ids=" ".join)
def test_an_example_parses(words: list[str], full_stack: Stack) -> None:
    """Verb and options exist (with --help behind them, nothing is done)."""
    done = full_stack.run(*words, "--help")
    assert done.returncode == 0, done.stderr


RUNNABLE = [words for words in DREAMSEED if words[0] in SAFE_VERBS and not _NOT_HERE & set(words)]


@pytest.fixture(scope="module")
def certs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples make certificates, one after another."""
    return tmp_path_factory.mktemp("certs")


@pytest.mark.parametrize("words", RUNNABLE, ids=" ".join)
def test_an_example_runs(
    words: list[str], full_stack: Stack, certs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a running stack, in the order of the pages, with exit code 0."""
    monkeypatch.setenv("DREAMSEED_CERTS_DIR", str(certs_dir))
    done = full_stack.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("words", MAKE, ids=" ".join)
def test_a_make_target_exists(words: list[str]) -> None:
    """`make -n` knows it."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_in_the_pages_lead_somewhere() -> None:
    """Relative links name files that exist."""
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "decisions").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_cli_reference_is_current() -> None:
    """`make docs` would change nothing."""
    script = ROOT / "scripts" / "generate_cli_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
