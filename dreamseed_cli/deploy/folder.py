"""A folder of rendered files: what was rendered there before, and what was changed by hand since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.files import make_readable, write_atomically
from dreamseed_cli.deploy.render import Rendered

MANIFEST = "rendered.json"


def write(folder: Path, rendered: Sequence[Rendered], *, force: bool) -> tuple[PurePosixPath, ...]:
    """Write all of them, and take away those of an earlier run that this profile no longer has.

    Returns what was new or different. UsageError, with nothing written, if a file was changed by hand since
    it was rendered, or is somebody else's, unless `force`; FailedError if the folder cannot be written.
    """
    before = _manifest(folder)
    gone = [path for path in before if path not in {str(one.path) for one in rendered}]
    if not force:
        _refuse_changed(folder, before, {str(one.path): one.text for one in rendered})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        changed = tuple(one.path for one in rendered if _put(folder, one))
        for path in gone:
            # What an earlier run of one target alone rendered stays: only whole targets go.
            if _same_target(path, rendered):
                (folder / path).unlink(missing_ok=True)
                before.pop(path)
        now = {**before, **{str(one.path): _hash(one.text.encode()) for one in rendered}}
        write_atomically(
            folder / MANIFEST, (json.dumps(now, indent=1, sort_keys=True) + "\n").encode(), mode=0o644
        )
    except OSError as error:
        raise FailedError(
            f"cannot be written: {error.strerror}",
            place=str(error.filename or folder),
            remedy="Choose another folder with --out.",
        ) from error
    return changed


def _refuse_changed(folder: Path, before: Mapping[str, str], texts: Mapping[str, str]) -> None:
    changed = [path for path in before if _is_changed(folder / path, before[path], texts.get(path))]
    others = [path for path in texts if path not in before and _is_changed(folder / path, "", texts[path])]
    for paths, what in ((changed, "changed by hand since it was rendered"), (others, "not rendered here")):
        if paths:
            raise UsageError(
                f"{what}: {', '.join(paths)}",
                place=str(folder),
                remedy="Put the change into the profile, or overwrite it with --force.",
            )


def _is_changed(path: Path, rendered: str, wanted: str | None) -> bool:
    try:
        now = _hash(path.read_bytes())
    except OSError:
        return False  # gone: nothing of a person's is lost
    return now not in (rendered, _hash((wanted or "").encode()))


def _put(folder: Path, one: Rendered) -> bool:
    path = folder / one.path
    if path.is_file() and path.read_bytes() == one.text.encode():
        return False
    make_readable(path.parent)
    write_atomically(path, one.text.encode(), mode=one.mode)
    return True


def _same_target(path: str, rendered: Sequence[Rendered]) -> bool:
    return path.partition("/")[0] in {one.target for one in rendered}


def _manifest(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return {str(path): str(value) for path, value in found.items()} if isinstance(found, dict) else {}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
