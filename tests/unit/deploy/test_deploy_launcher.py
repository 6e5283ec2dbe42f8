"""The command that `deploy render host` puts on the PATH: on a box the pages' commands work as they stand."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamseed_cli.deploy.catalog import COMMAND, TARGETS
from dreamseed_cli.deploy.render import render
from dreamseed_cli.profile.load import load_profile

_SECRETS = """\
# Backblaze
DREAMSEED_B2_KEY=a $key `with` "all" of it
DREAMSEED_DATABASE_URL="service=dreamseed"

not a variable
LAST='one'"""

Call = Callable[..., tuple[list[str], dict[str, str]]]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Calls it among an `id`, a `sudo` and a `runuser` that only tell: the last's words, and variables."""
    host = load_profile("laptop").deploy.host.model_copy(update={"config": f"{tmp_path}/etc"})
    deploy = load_profile("laptop").deploy.model_copy(update={"host": host})
    profile = load_profile("laptop").model_copy(update={"deploy": deploy})
    script = tmp_path / "dreamseed"
    script.write_text(next(one.text for one in render(profile, TARGETS) if one.install_at == COMMAND))
    script.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/secrets.env").write_text(_SECRETS)
    tell = 'printf "%s\\n" "$0" "$@"; echo; env'
    for name, body in {"id": "echo $THE_ID", "sudo": tell, "runuser": tell}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)

    def once(*words: str, user_id: int = 0) -> tuple[list[str], dict[str, str]]:
        around = {
            "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
            "THE_ID": str(user_id),
            "HOME": "/root",
            "XDG_STATE_HOME": "/root/.state",
        }
        argv = [str(script), *words]
        said = subprocess.run(argv, env=around, capture_output=True, text=True, check=True).stdout
        told, _, variables = said.partition("\n\n")
        named = dict(line.split("=", 1) for line in variables.splitlines() if "=" in line)
        return told.splitlines(), named

    return once


def test_it_is_the_units_program_user_and_profile(call: Call) -> None:
    """Whoever calls it finds the running stack, its backups and its certificates; its words stay whole."""
    words, told = call("events", "tail", "--user", "a b")
    assert words[1:] == [
        "-u",
        "dreamseed",
        "--",
        "/opt/dreamseed/bin/dreamseed",
        "events",
        "tail",
        "--user",
        "a b",
    ]
    assert told["DREAMSEED_STATE_DIR"] == "/var/lib/dreamseed"
    assert told["DREAMSEED_PROFILE"].endswith("/etc/profile.toml")
    assert "XDG_STATE_HOME" not in told


def test_it_has_the_secrets_as_systemd_reads_them(call: Call) -> None:
    """Nothing of a value is taken for the shell's; quotation marks around one are not of it."""
    _, told = call("backup", "status")
    assert told["DREAMSEED_B2_KEY"] == 'a $key `with` "all" of it'
    assert (told["DREAMSEED_DATABASE_URL"], told["LAST"]) == ("service=dreamseed", "one")


def test_who_is_not_root_is_asked_by_sudo(call: Call) -> None:
    """With the same words; without sudo's leave nothing is done."""
    words, told = call("status", user_id=1000)
    assert (Path(words[0]).name, words[1], Path(words[2]).name, words[3:]) == (
        "sudo",
        "--",
        "dreamseed",
        ["status"],
    )
    assert "DREAMSEED_B2_KEY" not in told
