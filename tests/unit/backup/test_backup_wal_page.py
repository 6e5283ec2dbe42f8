"""What docs/runbooks/wal.md has an operator type for a PostgreSQL of their own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from dreamseed_cli.backup.home import backup_home
from dreamseed_cli.backup.store.open import StoreSettings
from dreamseed_cli.deploy.catalog import target
from dreamseed_cli.deploy.render import render
from dreamseed_cli.profile.load import load_profile

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "runbooks" / "wal.md").read_text(encoding="utf-8")
ARCHIVE_ENV = "/etc/dreamseed/archive.env"
_SUDO = '#!/bin/sh\nexec "$@"\n'
_INSTALL = """#!/bin/bash
words=()
while [ $# -gt 0 ]; do
  case "$1" in
    -o|-g) [ "$2" = postgres ] || exit 9; shift ;;
    /var/*|/etc/*) words+=("$ROOT$1") ;;
    *) words+=("$1") ;;
  esac
  shift
done
exec /usr/bin/install "${words[@]}"
"""
"""install(1) below another root, by whoever runs the test."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A box on which `dreamseed backup init` was run, after the page's commands."""
    root, programs = tmp_path / "root", tmp_path / "bin"
    home = root / "var/lib/dreamseed/.local/share/dreamseed/backup"
    for folder in (programs, home, root / "etc/dreamseed"):
        folder.mkdir(parents=True)
    (home / "recipients.txt").write_text("age1somebody\n")
    for name, text in (("sudo", _SUDO), ("install", _INSTALL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "ROOT": str(root)}
    subprocess.run(["sh", "-e", "-c", script], env=env, check=True)
    return root


def test_the_servers_user_has_a_folder_keys_and_recipients(root: Path) -> None:
    """Closed to others, but for the public keys, which lie where the page has the profile look."""
    env = root / ARCHIVE_ENV.removeprefix("/")
    assert env.stat().st_mode & 0o777 == 0o600
    assert (root / "var/lib/dreamseed-wal").stat().st_mode & 0o777 == 0o700
    (named,) = re.findall(r'`recipients_file = "/(.*?)"`', PAGE)
    assert (root / named).read_text() == "age1somebody\n"
    assert (root / named).stat().st_mode & 0o777 == 0o644


def test_its_variables_are_those_that_wal_push_reads(root: Path) -> None:
    """The rendered archive_command takes them from that file."""
    env = root / ARCHIVE_ENV.removeprefix("/")
    told = dict(line.split("=", 1) for line in env.read_text().splitlines())
    keys = StoreSettings().b2
    assert set(told) == {"DREAMSEED_BACKUP_DIR", keys.key_id, keys.key}
    assert backup_home(told) == Path("/var/lib/dreamseed-wal")
    postgres = target("postgres")
    assert postgres is not None
    rendered = "".join(one.text for one in render(load_profile("rtx5090x3"), [postgres]))
    assert f". {ARCHIVE_ENV};" in rendered
