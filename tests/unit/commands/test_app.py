"""The program's own contracts: exit codes, the JSON envelope, no tracebacks, a fast --help."""

import errno
import json
import os
import subprocess
import sys

import pytest

from dreamseed_cli import __version__
from dreamseed_cli.app import main
from dreamseed_cli.profile.load import shipped_dir

HEAVY = {
    "asyncio",
    "grpc",
    "aiohttp",
    "pydantic",
    "structlog",
    "uvloop",
    "psutil",
    "google.protobuf",
    "torch",
    "vllm",
}


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """And asks for nothing else."""
    assert _run("--version") == 0
    assert capsys.readouterr().out == f"dreamseed {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-verb",),
        ("profile", "show"),
        ("profile", "check", "none"),
        ("ask",),
        ("serve", "--gpus", "x"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_clear_message(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, without a traceback."""
    assert _run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("arguments", [(), ("profile",)])
def test_without_a_command_the_help_is_shown(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """And it is still wrong usage, so that a script notices."""
    assert _run(*arguments) == 2
    captured = capsys.readouterr()
    assert "Commands" in captured.out
    assert "no command was given" in captured.err


@pytest.mark.parametrize("arguments", [("profile", "check", "none"), ("ask",), ("no-such-verb",)])
def test_every_failure_still_gives_the_json_envelope(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """One document on stdout, nothing on stderr."""
    assert _run(*arguments, "--json") == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert set(document) == {"command", "ok", "data", "errors"}
    assert document["ok"] is False
    assert document["errors"][0]["cause"]
    assert captured.err == ""


def test_nothing_running_is_something_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3, with the remedy."""
    assert _run("ask", "hello?") == 3
    assert "dreamseed serve" in capsys.readouterr().err


def test_an_unexpected_failure_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--debug shows it; without, the message says so."""

    def broken() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("dreamseed_cli.profile.load.shipped_names", broken)
    assert _run("profile", "list") == 4
    assert "RuntimeError: boom" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="boom"):
        main(["--debug", "profile", "list"])


def test_a_full_disk_is_named_with_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No talk of bugs where the system said why."""

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/state/children.json")

    monkeypatch.setattr("dreamseed_cli.profile.load.shipped_names", full)
    assert _run("profile", "list") == 4
    said = capsys.readouterr().err
    assert "at '/state/children.json': No space left on device. Free some space" in said
    assert "bug" not in said


def test_a_wrong_value_names_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Which of the options was meant."""
    assert _run("serve", "--gpus", "0") == 2
    assert "'--gpus'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("drill", "lost-hots"), "Did you mean 'lost-host', 'lost-database'? See --help"),
        (("user", "tier", "ann", "gold"), "Invalid value for 'tier': 'gold' is not one of 'paid'"),
    ],
)
def test_wrong_words_are_told_in_ours(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A question keeps its mark, and the parser's own words are left out."""
    assert _run(*words) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("address", ["no such host:1", "nowhere.invalid:50051"])
def test_an_address_that_leads_nowhere_is_wrong_usage(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unlike an address where nobody listens yet."""
    assert _run("ask", "hello?", "--address", address) == 2
    assert address in capsys.readouterr().err


def test_nobody_listening_is_something_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Port 1 is free on any machine of ours."""
    assert _run("ask", "hello?", "--address", "127.0.0.1:1") == 3
    captured = capsys.readouterr()
    assert "no gateway listens there" in captured.err
    assert captured.out == ""  # no empty line where an answer is piped on


def test_an_interruption_exits_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as JSON."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dreamseed_cli.profile.load.shipped_names", interrupted)
    assert _run("profile", "list") == 130
    assert _run("profile", "list", "--json") == 130
    assert json.loads(capsys.readouterr().out)["errors"][0]["kind"] == "interrupted"


def test_help_loads_no_room() -> None:
    """What makes `--help` fast, without a clock: nothing heavy is imported for it."""
    code = "import sys, dreamseed_cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("profile list --json", 0),
        ("profile show laptop", 0),
        ("bench --help", 0),
        ("plan --profile rtx5090x3-document", 1),
    ],
)
def test_a_closed_pipe_is_no_failure(words: str, code: int) -> None:
    """`dreamseed profile show laptop | head -1` ends quietly, with the exit code that it has without."""
    line = f"set -o pipefail; {sys.executable} -m dreamseed_cli {words} | (head -c 1 >&2)"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr)) == (code, 1)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("profile list --json >/dev/full", 4, "No space left on device"),
        ("profile list >/dev/full", 4, "No space left on device"),
        ("profile list --json >/dev/full 2>/dev/full", 4, ""),
        ("profile list --json >&-", 0, ""),
        ("profile list >&- 2>&-", 0, ""),
        ("stop nothing --json >&- 2>&-", 2, ""),
    ],
)
def test_a_stdout_that_takes_nothing_is_no_traceback(line: str, code: int, said: str) -> None:
    """A full disk is told on stderr. Where a stream is closed nobody wants to hear."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m dreamseed_cli {line}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_terminal_without_unicode_gets_what_it_can_show() -> None:
    """The document's sections are written with a sign that ASCII has not; JSON loses nothing of it."""

    def told(*options: str) -> str:
        argv = [sys.executable, "-m", "dreamseed_cli", "estimates", *options]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        return subprocess.run(argv, env=environment, capture_output=True, check=True).stdout.decode("ascii")

    assert "?E3" in told("--section", "E3")
    assert "§" in str(json.loads(told("--json")))


def test_the_profile_verbs_show_what_the_files_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """`list` names all, `show` prints the file, `show --json` fills in the defaults."""
    assert _run("profile", "list", "--json") == 0
    names = [profile["name"] for profile in json.loads(capsys.readouterr().out)["data"]["profiles"]]
    assert "laptop" in names
    assert _run("profile", "show", "laptop") == 0
    assert capsys.readouterr().out == (shipped_dir() / "laptop.toml").read_text()  # in whatever window
    assert _run("profile", "show", "laptop", "--json") == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["engine"]["prefix_caching"] is True


def test_profile_check_computes_or_says_that_it_did_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Figures for a known card, exit code 2 for what cannot start."""
    assert _run("profile", "check", "rtx5090x3") == 0
    assert "computed" in capsys.readouterr().out
    assert _run("profile", "check", "rtx5090x3-document", "--json") == 2
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert errors[0]["place"] == "rtx5090x3-document: engine.tensor_parallel_size"
