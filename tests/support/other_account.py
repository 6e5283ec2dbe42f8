"""Another account of this machine: a process of it has what it is given, and may read nothing of ours."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dreamseed_cli

_NOBODY = 65534
_PROGRAM = Path(dreamseed_cli.__file__).resolve().parents[1]
NOT_ROOT = "only root can take another account: it ran as this one, from whom nothing is closed"


@dataclass(frozen=True)
class OtherAccount:
    """ours: who is not root has no other account than its own."""

    home: Path
    ours: bool

    @classmethod
    def in_folder(cls, folder: Path) -> OtherAccount:
        """With an empty home there."""
        made = cls(folder / "home", ours=os.geteuid() != 0)
        folder.chmod(0o755)
        made.home.mkdir(mode=0o700)
        made.give(made.home)
        return made

    def give(self, path: Path) -> None:
        """It is the account's from now on."""
        if not self.ours:
            os.chown(path, _NOBODY, _NOBODY)

    def run(self, argv: Sequence[str], given: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run it there; its environment is what is given, its home, and where the program lies."""
        own = {"HOME": str(self.home), "PATH": os.environ["PATH"], "PYTHONPATH": str(_PROGRAM)}
        return subprocess.run(
            list(argv) if self.ours else self._as_it(argv),
            env={**own, **given},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def _as_it(self, argv: Sequence[str]) -> list[str]:
        taken = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *argv]
        closed = {path: top for path in _needed() if (top := _closed(path)) is not None}
        if not closed:
            return taken
        opened = ["sh", "-c", _opening(closed, self.home.parent), "sh", *taken]
        return ["unshare", "--mount", *opened]


def _needed() -> list[Path]:
    """Python, what is installed for it, and this program."""
    return [Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), _PROGRAM]


def _closed(path: Path) -> Path | None:
    """The outermost folder on the way to it that others may not pass; None: there is none."""
    on_the_way = [*reversed(path.parents), path]
    return next((one for one in on_the_way if not one.stat().st_mode & stat.S_IXOTH), None)


def _opening(closed: Mapping[Path, Path], staging: Path) -> str:
    """A script: in a mount namespace of its own each closed folder holds what is needed, and nothing else."""
    lines, back = ["set -e"], []
    for number, path in enumerate(closed):
        held, there = shlex.quote(f"{staging}/held-{number}"), shlex.quote(str(path))
        lines += [f"mkdir -p {held}", f"mount --bind {there} {held}"]
        back += [f"mkdir -p {there}", f"mount --bind {held} {there}"]
    lines += [f"mount -t tmpfs -o mode=0755 open {shlex.quote(str(top))}" for top in set(closed.values())]
    return "\n".join([*lines, *back, f"cd {shlex.quote(str(staging))}", 'exec "$@"'])
