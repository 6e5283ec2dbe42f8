"""Programs are believed only at exit code 0, and end with us."""

import os
import time
from pathlib import Path

import pytest

from dreamseed_cli.backup.producer import (
    Producer,
    ProducerFailed,
    ProgramMissing,
    libpq_environment,
    program_version,
    run_program,
)


def test_output_is_read_to_the_end() -> None:
    """As it was written, and then nothing more."""
    with Producer(["sh", "-c", "printf hello"]) as running:
        assert running.read(3) == b"hel"
        assert running.read(10) == b"lo"
        assert running.read(10) == b""


@pytest.mark.parametrize(("end", "told"), [("exit 3", "exit code 3"), ("kill -9 $$", "killed by signal 9")])
def test_a_failure_is_no_end_of_output(end: str, told: str) -> None:
    """The last read raises, with what the program said last."""
    script = f"printf some; for n in $(seq 30); do echo line $n >&2; done; {end}"
    with Producer(["sh", "-c", script]) as running:
        assert running.read(4) == b"some"
        with pytest.raises(ProducerFailed, match=f"{told}: line 11\n(.*\n)*line 30") as caught:
            running.read(1)
    assert caught.value.place == "sh"


def test_it_works_ahead_of_its_reader(tmp_path: Path) -> None:
    """By more than the 64 KiB of a usual pipe."""
    done = tmp_path / "done"
    with Producer(["sh", "-c", f"head -c 500000 /dev/zero; touch {done}"]) as running:
        deadline = time.monotonic() + 60
        while not done.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(running.read(600_000)) == 500_000


def test_leaving_ends_it_and_its_children(tmp_path: Path) -> None:
    """Children that would go on by themselves end too."""
    child = tmp_path / "child"
    with Producer(["sh", "-c", f"sleep 60 & echo $! > {child}; echo up; wait"]) as running:
        assert running.read(3) == b"up\n"
    pid = int(child.read_text())
    deadline = time.monotonic() + 60
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    """Whether it is neither gone nor a zombie that nobody collects."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_environment_reaches_it() -> None:
    """Beside our own."""
    with Producer(["sh", "-c", "printf %s:%s $X $HOME"], environment={"X": "1"}) as running:
        assert running.read(1000).decode() == f"1:{os.environ.get('HOME', '')}"


def test_a_missing_program_is_named() -> None:
    """Exit code 3, with its path."""
    with pytest.raises(ProgramMissing) as caught:
        run_program(["/no/such/pg_dump"])
    assert caught.value.place == "/no/such/pg_dump"


@pytest.mark.parametrize(
    "text", ["pg_dump (PostgreSQL) 15.14", "pg_dump (PostgreSQL) 15.14 (Debian 15.14-0)"]
)
def test_a_version(tmp_path: Path, text: str) -> None:
    """The number, without what a distribution adds."""
    path = tmp_path / "pg_dump"
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    assert program_version(path) == "15.14"


def test_a_connection_string_becomes_environment() -> None:
    """A password never stands on a command line."""
    assert libpq_environment("host=h port=5 user='a b' password=p dbname=d") == {
        "PGHOST": "h",
        "PGPORT": "5",
        "PGUSER": "a b",
        "PGPASSWORD": "p",
        "PGDATABASE": "d",
    }
