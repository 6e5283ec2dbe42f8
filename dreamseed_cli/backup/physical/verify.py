"""A restored data folder against the backup's own manifest: nothing missing, nothing more, nothing changed.

Names, sizes and SHA checksums are compared here. The server's usual CRC-32C checksums take pg_verifybackup,
which also reads the WAL. The embedded build ships a pg_verifybackup that cannot start: then they are computed
here, a third as fast, if that is wanted; else it is said that names and sizes were compared alone (every
part's SHA-256 was proven before it was unpacked).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.server import Programs
from dreamseed_cli.backup.physical.label import MANIFEST
from dreamseed_cli.backup.producer import ProducerFailed, ProgramMissing, run_program
from dreamseed_cli.backup.store.files import os_errors
from dreamseed_cli.core.errors import FailedError

_SHA: Final = {"SHA224": "sha224", "SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512"}
_CHUNK: Final = 8 << 20
_CHECKSUM_KEY: Final = b'"Manifest-Checksum"'


class CopyDiffers(FailedError):
    """The restored files are others than those that were backed up."""

    kind = "copy_differs"


class Verified(StrEnum):
    """How far files were compared with what the server wrote down when it copied them."""

    SERVER = "names, sizes, checksums and WAL (pg_verifybackup)"
    CONTENT = "names, sizes and checksums"
    """Computed here."""
    SIZES = "names and sizes"


def verify_folder(folder: Path, programs: Programs, ignore: Collection[str], *, thorough: bool) -> Verified:
    """Compare a folder in which no server has run yet. CopyDiffers, with the first difference.

    ignore: files of ours at its top. thorough: compute checksums here if pg_verifybackup cannot.
    """
    with os_errors(str(folder)):
        data = (folder / MANIFEST).read_bytes()
        files = _files(data, folder)
        _compare_names(folder, files, ignore)
        unproven = [name for name, file in files.items() if not _matches(folder, name, file)]
        if unproven and _pg_verifybackup(folder, programs, ignore):
            return Verified.SERVER
        if unproven and not thorough:
            return Verified.SIZES
        for name in unproven:
            _compare_crc(folder / name, files[name])
    return Verified.CONTENT


def _files(data: bytes, folder: Path) -> dict[str, dict[str, Any]]:
    """The manifest's files by name. It ends with a checksum of all its bytes before that."""
    try:
        document = json.loads(data)
        files: list[dict[str, Any]] = document["Files"]
        checksum = str(document["Manifest-Checksum"])
    except (ValueError, KeyError, TypeError) as error:
        raise _differs(f"it cannot be read ({error})", folder / MANIFEST) from error
    if hashlib.sha256(data[: data.rindex(_CHECKSUM_KEY)]).hexdigest() != checksum:
        raise _differs("its own checksum differs", folder / MANIFEST)
    return {_name(file): file for file in files}


def _name(file: dict[str, Any]) -> str:
    """A name that is not UTF-8 stands there in hexadecimal digits."""
    if "Path" in file:
        return str(file["Path"])
    return os.fsdecode(bytes.fromhex(file["Encoded-Path"]))


def _compare_names(folder: Path, files: dict[str, dict[str, Any]], ignore: Collection[str]) -> None:
    found = {name for name in _walk(folder) if name not in {MANIFEST, *ignore}}
    # WAL is proven by recovery itself: its ranges stand in the manifest, its files do not.
    more = {name for name in found - files.keys() if not name.startswith("pg_wal/")}
    for cause, names in (("is missing", files.keys() - found), ("was never backed up", more)):
        if names:
            raise _differs(cause, folder / min(names))


def _walk(folder: Path) -> Iterator[str]:
    for above, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(Path(above) / name, folder)


def _matches(folder: Path, name: str, file: dict[str, Any]) -> bool:
    """Whether its checksum was compared; CopyDiffers if anything is known to differ."""
    ending.check()
    path = folder / name
    if path.stat().st_size != file["Size"]:
        raise _differs(f"it has {path.stat().st_size} bytes instead of {file['Size']}", path)
    algorithm = _SHA.get(str(file.get("Checksum-Algorithm")))
    if algorithm is None:
        return not file["Size"]
    with path.open("rb") as content:
        if hashlib.file_digest(content, algorithm).hexdigest() != file["Checksum"]:
            raise _differs("its content differs", path)
    return True


def _compare_crc(path: Path, file: dict[str, Any]) -> None:
    from dreamseed_cli.backup.physical.crc32c import crc32c  # numpy: slow to load, and rarely needed

    algorithm, crc = file.get("Checksum-Algorithm"), 0
    if algorithm != "CRC32C":
        raise _differs(f"its checksum ({algorithm}) is of a kind that is not known here", path)
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            ending.check()
            crc = crc32c(chunk, crc)
    # The server writes the number as it lies in its memory.
    if crc.to_bytes(4, sys.byteorder).hex() != file["Checksum"]:
        raise _differs("its content differs", path)


def _pg_verifybackup(folder: Path, programs: Programs, ignore: Collection[str]) -> bool:
    """Whether it could be asked; CopyDiffers if it is not content."""
    program = programs("pg_verifybackup")
    try:
        run_program([program, "--version"])
    except (ProducerFailed, ProgramMissing):
        return False
    try:
        run_program([program, "--exit-on-error", *(f"--ignore={name}" for name in ignore), folder])
    except ProducerFailed as error:
        raise _differs(error.cause[-500:], folder) from error
    return True


def _differs(cause: str, path: Path) -> CopyDiffers:
    return CopyDiffers(
        cause, place=str(path), remedy="Restore another backup, or try this one on another disk."
    )
