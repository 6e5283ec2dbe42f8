"""Where the tool keeps things on this host: state, logs, sockets, and models it prepared."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from dreamseed_cli.core.errors import UsageError

# sockaddr_un.sun_path holds 108 bytes with its closing NUL: unix(7).
_SOCKET_PATH_LIMIT = 107
_LONGEST_SOCKET_NAME = "gateway-admin.sock"


def names_a_file(name: str) -> bool:
    """Whether it is the path of a TOML file of one's own, rather than the name of a shipped one."""
    return name.endswith(".toml") or "/" in name


@dataclass(frozen=True, slots=True)
class StateDir:
    """The folder of one running stack: who runs, on which sockets, with which logs."""

    root: Path

    @classmethod
    def locate(cls, override: Path | None = None) -> StateDir:
        """`--state-dir`, else $DREAMSEED_STATE_DIR, else the user's state folder (XDG)."""
        chosen = override or os.environ.get("DREAMSEED_STATE_DIR")
        root = Path(chosen) if chosen else platformdirs.user_state_path("dreamseed")
        return cls(root.expanduser().resolve())

    def create(self) -> None:
        """Make the folders, readable by their owner only; UsageError if sockets cannot live here."""
        longest = self.socket_dir / _LONGEST_SOCKET_NAME
        if len(os.fsencode(longest)) > _SOCKET_PATH_LIMIT:
            raise UsageError(
                f"the path is too long for Unix sockets ({len(os.fsencode(longest))} bytes, "
                f"the kernel takes {_SOCKET_PATH_LIMIT})",
                place=str(self.root),
                remedy="Choose a shorter one with --state-dir or DREAMSEED_STATE_DIR.",
            )
        self._make(self.root, self.socket_dir, self.log_dir)

    def create_root(self) -> None:
        """Make the folder alone, for one who may be root beside a stack of another user: what else root made
        in it, that user could not write to.
        """
        self._make(self.root)

    def _make(self, *folders: Path) -> None:
        try:
            for folder in folders:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the state folder cannot be made: {error.strerror}",
                place=str(error.filename or self.root),
                remedy="Choose another with --state-dir or DREAMSEED_STATE_DIR.",
            ) from error

    @property
    def socket_dir(self) -> Path:
        return self.root / "run"

    @property
    def log_dir(self) -> Path:
        return self.root / "logs"

    def socket(self, name: str) -> Path:
        """The Unix socket of one process, such as `r0` or `control`."""
        return self.socket_dir / f"{name}.sock"

    def log(self, name: str) -> Path:
        """The log of one process: its stdout and stderr."""
        return self.log_dir / f"{name}.log"


def nearest(path: Path) -> Path:
    """The path, or the folder above it that is there already."""
    return next(one for one in (path, *path.parents) if one.exists())


def cache_dir() -> Path:
    """The user's cache folder: what can be made again ($DREAMSEED_CACHE_DIR, else XDG)."""
    override = os.environ.get("DREAMSEED_CACHE_DIR")
    return Path(override).expanduser() if override else platformdirs.user_cache_path("dreamseed")
