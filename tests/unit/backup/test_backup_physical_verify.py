"""A restored folder against the backup's manifest, where pg_verifybackup cannot start."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from dreamseed_cli.backup.physical.crc32c import crc32c
from dreamseed_cli.backup.physical.verify import CopyDiffers, Verified, verify_folder

CONTENT = b"a page of a table"
MARK = "our-mark"


def _program(_name: str) -> Path:
    return Path("/bin/false")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file, the WAL that came along, our mark, and the manifest."""
    for name in ("base", "pg_wal"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "1").write_bytes(CONTENT)
    (tmp_path / "pg_wal" / "000000010000000000000002").touch()
    (tmp_path / MARK).touch()
    checksum = crc32c(CONTENT).to_bytes(4, sys.byteorder).hex()
    file = {"Path": "base/1", "Size": len(CONTENT), "Checksum-Algorithm": "CRC32C", "Checksum": checksum}
    _write_manifest(tmp_path, file)
    return tmp_path


def _write_manifest(folder: Path, file: dict[str, object]) -> None:
    text = f'{{"PostgreSQL-Backup-Manifest-Version": 2, "Files": [{json.dumps(file)}],\n'
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "backup_manifest").write_text(f'{text}"Manifest-Checksum": "{digest}"}}\n')


def test_what_is_equal(folder: Path) -> None:
    """How far it was compared is said."""
    assert verify_folder(folder, _program, (MARK,), thorough=True) is Verified.CONTENT
    assert verify_folder(folder, _program, (MARK,), thorough=False) is Verified.SIZES


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC32C"])
def test_one_changed_bit(folder: Path, algorithm: str) -> None:
    """Of the same size, and still found."""
    if algorithm == "SHA256":
        digest = hashlib.sha256(CONTENT).hexdigest()
        file = {"Path": "base/1", "Size": len(CONTENT), "Checksum-Algorithm": "SHA256", "Checksum": digest}
        _write_manifest(folder, file)
        assert verify_folder(folder, _program, (MARK,), thorough=False) is Verified.CONTENT
    (folder / "base" / "1").write_bytes(b"A" + CONTENT[1:])
    with pytest.raises(CopyDiffers, match=r"base/1.*content differs"):
        verify_folder(folder, _program, (MARK,), thorough=True)


def test_missing_more_and_shorter(folder: Path) -> None:
    """Each is named."""
    path = folder / "base" / "1"
    (folder / "base" / "2").touch()
    with pytest.raises(CopyDiffers, match=r"base/2.*never backed up"):
        verify_folder(folder, _program, (MARK,), thorough=False)
    (folder / "base" / "2").unlink()
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(CopyDiffers, match="16 bytes instead of 17"):
        verify_folder(folder, _program, (MARK,), thorough=False)
    path.unlink()
    with pytest.raises(CopyDiffers, match=r"base/1.*is missing"):
        verify_folder(folder, _program, (MARK,), thorough=False)


def test_a_changed_manifest(folder: Path) -> None:
    """It vouches for itself with a checksum."""
    manifest = folder / "backup_manifest"
    manifest.write_text(manifest.read_text().replace("base/1", "base/3"))
    with pytest.raises(CopyDiffers, match="its own checksum"):
        verify_folder(folder, _program, (MARK,), thorough=False)
