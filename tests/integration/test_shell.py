"""What the program gives to shells and to `man`, tried with bash and groff themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PAGE = ROOT / "docs" / "dreamseed.1"


def _bash(script: str) -> str:
    """What a bash prints whose `dreamseed` is this one. CalledProcessError where a command fails."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [("dreamseed st", ["status", "stop"]), ("dreamseed backup un", ["unpin"])],
)
def test_bash_completes_verbs(words: str, offered: list[str]) -> None:
    """The script that --show-completion prints for the shell it is called from, once bash has read it."""
    complete = f"""
        eval "$(dreamseed --show-completion)"
        complete -p dreamseed >&2
        COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _dreamseed_completion dreamseed
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert _bash(complete).split() == offered


def test_the_man_page_is_the_programs_own_help() -> None:
    """`make docs` would change nothing."""
    script = ROOT / "scripts" / "generate_man_page.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_man_page_is_read_without_a_warning() -> None:
    """By groff, with every verb's examples in it as they are typed."""
    groff: list[str | Path] = ["groff", "-man", "-Tutf8", "-wall", _PAGE]
    done = subprocess.run(groff, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "$ dreamseed db tune --memory-gib 32 --cores 16 --storage nvme\n" in done.stdout


def test_ctrl_c_while_the_program_is_still_being_read(tmp_path: Path) -> None:
    """As in its first tenths of a second: 130, and not a word."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "dreamseed_cli", "status"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
