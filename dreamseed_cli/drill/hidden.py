"""A process that finds nothing of the source: its folders are empty there, in a mount namespace of its own.

Another account would be the plain way, but needs root, and a program and a store that others may read: the
shipped units run as one ordinary user. A namespace needs none of these, and hides files from the very user
who owns them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.drill.stage import Wish

_UNSHARE: Final = ("unshare", "--user", "--map-root-user", "--mount")
_TRY_S: Final = 10.0
_ONE_MOUNT: Final = "mount -t tmpfs -o size=64k,mode=0700 hidden /tmp"
"""In a namespace that ends with it. AppArmor may let a user have one, and mount nothing there (Ubuntu)."""
_CONNECT_S: Final = 5
# What is kept may lie below what is hidden: it is held open meanwhile, and bound where it was.
_HIDE: Final = """
set -e
exec 3<"$1" 4<"$2"
scratch=$1 store=$2
shift 2
while [ "$1" != -- ]; do
  mount -t tmpfs -o size=64k,mode=0700 hidden "$1"
  shift
done
shift
[ -d "$scratch" ] || { mkdir -p "$scratch" && mount -c --bind /proc/self/fd/3 "$scratch"; }
[ -d "$store" ] || { mkdir -p "$store" && mount -c --bind /proc/self/fd/4 "$store"; }
exec 3<&- 4<&-
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Hidden:
    """folders: those that are empty for the process. why_not: why none is; empty if they are.

    scratch, store: what it must still see; the store's folder if it is one, else scratch again.
    """

    folders: tuple[Path, ...]
    scratch: Path
    store: Path
    why_not: str = ""

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """The command so that it finds them empty; as it stands where that cannot be."""
        if self.why_not or not self.folders:
            return list(argv)
        shell = ["sh", "-c", _HIDE, "hide", str(self.scratch), str(self.store)]
        return [*_UNSHARE, *shell, *map(str, self.folders), "--", *argv]

    @property
    def words(self) -> str:
        """For the drill's notes."""
        if self.why_not:
            return f"The source's files were not hidden from it: {self.why_not}."
        return f"Hidden from it: {', '.join(map(str, self.folders)) or 'nothing was there'}."


def hidden(wish: Wish, scratch: Path) -> Hidden:
    """What belongs to the source on this host, as far as is known: its backups' home, its state, its data."""
    kind, _, place = wish.settings.store_url.partition(":")
    store = Path(place).expanduser().absolute() if kind == "local" else scratch
    there = sorted({path.resolve() for path in _source(wish) if path.is_dir()})
    outer = [path for path in there if not any(other in path.parents for other in there)]
    program = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), Path(__file__).resolve()]
    safe = [path for path in outer if not any(path in (one, *one.parents) for one in program)]
    return Hidden(tuple(safe), scratch.resolve(), store.resolve(), _obstacle())


def _source(wish: Wish) -> Iterator[Path]:
    yield wish.settings.home
    yield StateDir.locate().root
    if wish.dsn is not None:
        try:
            with psycopg.connect(wish.dsn, connect_timeout=_CONNECT_S) as connection:
                row = connection.execute("SELECT current_setting('data_directory', true)").fetchone()
        except psycopg.Error:
            return  # a role that may not see it; its files are the server's own user's
        if row is not None and row[0]:
            yield Path(str(row[0]))


def _obstacle() -> str:
    """Why this kernel lets nobody hide anything; empty if it does."""
    if shutil.which("unshare") is None:
        return "there is no unshare(1)"
    try:
        done = subprocess.run(
            [*_UNSHARE, "sh", "-c", _ONE_MOUNT], capture_output=True, text=True, timeout=_TRY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unshare(1): {error}"
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or "unshare(1) failed"
