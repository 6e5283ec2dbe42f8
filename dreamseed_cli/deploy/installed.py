"""What is installed on this box beside what would be rendered, and putting it there."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.files import make_readable, write_atomically
from dreamseed_cli.deploy.catalog import Template
from dreamseed_cli.deploy.render import Rendered, first_line

BEFORE = ".before-dreamseed~"
"""What a replaced file is kept as, once. logrotate reads every file of its folder but those that end so."""
LAST = ".last-dreamseed~"
"""What a file is kept as that was replaced after that: a change by hand, or an earlier profile's."""


_WITHOUT_RIGHTS = "Run it as root, or copy the rendered files yourself (--out)."
_OTHERWISE = "Clear the place, or copy the rendered files yourself (--out)."


class Drift(StrEnum):
    """How the installed file compares."""

    SAME = "same"
    DIFFERS = "differs"
    RIGHTS = "rights"
    """The same text, with other rights."""
    ABSENT = "absent"
    UNREADABLE = "unreadable"
    LEFT = "left"
    """Of an earlier profile: this one does not have it."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One file. diff: unified, from the installed to the rendered one, or of its rights; empty if neither."""

    place: Path
    drift: Drift
    diff: str = ""


def compare(rendered: Sequence[Rendered], root: Path) -> tuple[Compared, ...]:
    """Every file that has a place on this box, below `root`."""
    return tuple(_compare(one, _place(one.install_at, root)) for one in rendered if one.install_at)


def left(templates: Sequence[Template], root: Path) -> tuple[Compared, ...]:
    """Which of these templates' files lie on this box. What is another's, or cannot be read, is none."""
    places = ((one, _place(one.install_at, root)) for one in templates if one.install_at)
    return tuple(Compared(place, Drift.LEFT) for one, place in places if _begins_with(place, first_line(one)))


def _begins_with(place: Path, line: str) -> bool:
    try:
        return place.read_text(errors="replace").partition("\n")[0] == line
    except OSError:
        return False


def install(rendered: Sequence[Rendered], root: Path) -> tuple[Path, ...]:
    """Put those that differ in their place; returns them. MissingError, with what was done, without rights.

    What another origin had there is kept beside it, once; and what was there last.
    """
    done: list[Path] = []
    for one in rendered:
        if not one.install_at:
            continue
        place = _place(one.install_at, root)
        drift = _compare(one, place).drift
        if drift is Drift.SAME:
            continue
        try:
            if drift is Drift.RIGHTS:
                place.chmod(one.mode)
            else:
                _replace(place, one)
        except OSError as error:
            raise MissingError(
                f"cannot be written: {error.strerror}; put in place before: {_said(done)}",
                place=str(place),
                remedy=_WITHOUT_RIGHTS if isinstance(error, PermissionError) else _OTHERWISE,
            ) from error
        done.append(place)
    return tuple(done)


def _replace(place: Path, one: Rendered) -> None:
    make_readable(place.parent)
    if place.exists():
        first = place.with_name(place.name + BEFORE)
        kept = place.with_name(place.name + LAST) if first.exists() else first
        write_atomically(kept, place.read_bytes(), mode=stat.S_IMODE(place.stat().st_mode))
    write_atomically(place, one.text.encode(), mode=one.mode)


def _said(done: Sequence[Path]) -> str:
    return ", ".join(map(str, done)) or "nothing"


def _place(install_at: str, root: Path) -> Path:
    return root / install_at.removeprefix("/")


def _compare(one: Rendered, place: Path) -> Compared:
    try:
        text = place.read_text(errors="replace")
        mode = stat.S_IMODE(place.stat().st_mode)
    except FileNotFoundError:
        return Compared(place, Drift.ABSENT)
    except OSError:
        return Compared(place, Drift.UNREADABLE)
    if text == one.text:
        if mode == one.mode:
            return Compared(place, Drift.SAME)
        return Compared(place, Drift.RIGHTS, f"-mode {mode:04o}\n+mode {one.mode:04o}")
    lines = difflib.unified_diff(
        text.splitlines(), one.text.splitlines(), str(place), f"rendered {one.path}", lineterm=""
    )
    return Compared(place, Drift.DIFFERS, "\n".join(lines))
