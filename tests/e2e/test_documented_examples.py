"""Every example in the READMEs, the pages and the help is true: it parses, and what can run here, runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from fnmatch import fnmatch
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bench_results import batching_suite, engine_suite, records_of, sweep_result
from examples_elsewhere import ELSEWHERE

from dreamseed_cli.app import main
from dreamseed_cli.bench.report.files import write_report
from dreamseed_cli.commands.examples import EXAMPLES
from dreamseed_cli.core.errors import InterruptedByUser

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "runbooks").glob("*.md")),
    ROOT / "README.ko.md",
    *sorted((ROOT / "docs" / "runbooks" / "ko").glob("*.md")),
    ROOT / "docs" / "from-the-document.md",
]
ALERTS = ROOT / "dreamseed_cli" / "deploy" / "templates" / "prometheus" / "alerts.yml.j2"
LABELS = {
    "{{ $labels.replica }}": "r0",
    "{{ $labels.scenario }}": "lost-host",
}
_GO_ON = "--follow"
"""These go on until Ctrl-C."""
_FINDS_SOMETHING = (
    "chaos slow",
    "bench compare",
    "drill",
    "doctor",
    "db tune",
    "plan --profile rtx5090x3-document",
    "ups test --dry-run",
    "backup status",
    "schedule show",
    "deploy diff",
    "deploy check",
)
"""What ends with exit code 1 here, as it should: a target that is missed."""
_QUICKER = {
    "cost-sim": ("--hours", "0.02", "--draws", "100"),
    "chaos slow": ("--wait", "1"),
    "drill lost-host": ("--surprise", "0"),
    "drill corrupt-backup": ("--surprise", "0"),
    "drill due": ("--surprise", "0"),
}
"""Options for examples that compute or wait for long; whether that is right is other tests' matter."""


def _examples() -> list[list[str]]:
    """The command lines behind `$` in the pages' console blocks and in the help, as words."""
    blocks = [b for page in PAGES for b in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    lines += [f"dreamseed {example}" for examples in EXAMPLES.values() for example in examples]
    commands = (shlex.split(line, comments=True) for line in lines)
    without_variables = (tuple(dropwhile(lambda word: "=" in word, words)) for words in commands)
    return [list(words) for words in dict.fromkeys(without_variables)]


def _named(page: Path) -> list[list[str]]:
    """The whole commands that stand in a page's sentences and tables, or in what an alert says to do."""
    text = page.read_text()
    for label, value in LABELS.items():
        text = text.replace(label, value)
    return [shlex.split(line)[1:] for line in re.findall(r"`(dreamseed [a-z][^`]*)`", text)]


def _elsewhere(words: list[str]) -> str | None:
    """The pattern of what another test does; None: it runs here."""
    line = " ".join(words)
    return next((pattern for pattern in PATTERNS if fnmatch(line, pattern)), None)


def _quicker(words: list[str]) -> tuple[str, ...]:
    line = " ".join(words)
    return next((options for verb, options in _QUICKER.items() if line.startswith(verb)), ())


PATTERNS = [pattern for tests in ELSEWHERE.values() for patterns in tests.values() for pattern in patterns]
DREAMSEED = [words[1:] for words in _examples() if words[0] == "dreamseed"]
NAMED = [
    list(words)
    for words in dict.fromkeys(map(tuple, _named(ROOT / "docs" / "from-the-document.md") + _named(ALERTS)))
    if list(words) not in DREAMSEED
]
MAKE = [words[1:] for words in _examples() if words[0] == "make"]


def test_there_are_examples_of_every_verb() -> None:
    """A page whose examples are no longer found would make the tests below pass for nothing."""
    assert {words[0] for words in DREAMSEED} == {
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
        "serve",
        "plan",
        "cost-sim",
        "backup",
        "restore",
        "wal",
        "schedule",
        "deploy",
        "metrics",
        "doctor",
        "top",
        "ups",
        "drill",
        "bench",
        "restart",
        "stop",
        "chaos",
        "demo",
        "api",
    }
    assert all(_named(page) for page in (ROOT / "docs" / "from-the-document.md", ALERTS))
    assert ["demo"] in MAKE
    assert ["test"] in MAKE


@pytest.mark.parametrize("words", [*DREAMSEED, *NAMED], ids=" ".join)
def test_an_example_parses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Verb and options exist (with --help behind them, nothing is done)."""
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert not ended.value.code, capsys.readouterr().err


RUNNABLE = [words for words in [*DREAMSEED, *NAMED] if _elsewhere(words) is None]


def test_what_does_not_run_here_is_done_by_a_test_that_there_is() -> None:
    """No example is left out, and no entry is of an example that is gone."""
    assert {_elsewhere(words) for words in [*DREAMSEED, *NAMED]} == {None, *PATTERNS}
    for file, tests in ELSEWHERE.items():
        there = set(
            re.findall(r"^(?:async )?def (test_\w+)", (ROOT / "tests" / file).read_text(), re.MULTILINE)
        )
        assert set(tests) <= there, file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, full_stack: Stack) -> Path:
    """Where the examples write, one after another, with what they need: a model, two reports of bench, and a
    backup.
    """
    folder = tmp_path_factory.mktemp("home")
    (folder / "my-model").mkdir()
    (folder / "my-model" / "config.json").write_text(json.dumps(_MODEL))
    result = sweep_result(engine_suite(), batching_suite())
    first = write_report(folder / "reports", result, records_of(result)).folder
    shutil.copytree(first, first.with_name("20261126T040506Z"))
    with pytest.MonkeyPatch.context() as patch:
        _live_in(folder, patch)
        for words in (("backup", "init"), ("backup", "--kind", "logical")):
            done = full_stack.run(*words)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder


_MODEL = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


def _live_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """A user's folders and the working folder are there, not on this machine's."""
    for kind in ("config", "data", "state", "cache"):
        patch.setenv(f"XDG_{kind.upper()}_HOME", str(folder / kind))
    patch.setenv("DREAMSEED_BACKUP_DIR", str(folder / "backup"))
    patch.setenv("DREAMSEED_CERTS_DIR", str(folder / "certs"))
    patch.chdir(folder)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("words", RUNNABLE, ids=" ".join)
def test_an_example_runs(
    words: list[str], full_stack: Stack, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a running stack, in the order of the pages, with exit code 0 (1: it found something)."""
    _live_in(home, monkeypatch)
    if _GO_ON in words:
        _goes_on_until_ctrl_c(full_stack, words)
        return
    done = full_stack.run(*words, *_quicker(words))
    finds = " ".join(words).startswith(_FINDS_SOMETHING)
    assert done.returncode == 0 or (done.returncode == 1 and finds), done.stdout + done.stderr
    assert done.stdout


def _goes_on_until_ctrl_c(stack: Stack, words: list[str]) -> None:
    """It tells what there is, then waits for more."""
    with stack.start(*words) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == InterruptedByUser.exit_code, said


@pytest.mark.parametrize("words", MAKE, ids=" ".join)
def test_a_make_target_exists(words: list[str]) -> None:
    """`make -n` knows it."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_in_the_pages_lead_somewhere() -> None:
    """Relative links name files that exist, and headings in them."""
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "decisions").glob("*.md")]:
        for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            path = page.parent / target if target else page
            assert path.exists(), f"{page.name}: {target}"
            assert not heading or heading in _headings(path), f"{page.name}: {target}#{heading}"


def _headings(page: Path) -> set[str]:
    """As they are linked to: lower case, hyphens for spaces, no other marks."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found}


def test_the_cli_reference_is_current() -> None:
    """`make docs` would change nothing."""
    script = ROOT / "scripts" / "generate_cli_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
