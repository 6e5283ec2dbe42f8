"""The second copy (§A1): a backup's objects as they are, still sealed, in another store."""

from __future__ import annotations

from collections.abc import Iterable

from dreamseed_cli.backup.manifest import Blob, Folder, Manifest
from dreamseed_cli.backup.names import blob_name, manifest_name, part_name
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.seal import payload_size, sha256
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.errors import ObjectConflict


def copy_backup(store: Store, cold: Store, manifest: Manifest, *, threads: int = 2) -> int:
    """Copy a backup, its manifest last; what is there already is not sent again. Stored bytes copied.

    A folder's content that went from the first store and came back was sealed anew. The second store, which
    nothing prunes, has it as it was sealed first, and its manifest names that. Needs no private key. Raises
    either store's errors: then the copy has no manifest, and the next run's copy is another one.
    """
    backup_id = manifest.identity.backup_id
    parts = {part_name(backup_id, part.index): part.cipher_sha256 for part in manifest.parts}
    blobs = {blob.plain_sha256: blob for folder in manifest.folders for blob in folder.blobs}
    with Pool(threads, "cold") as pool:
        copied = sum(pool.map(lambda part: _copy(store, cold, *part), parts.items()))
        found = pool.map(lambda blob: _copy_blob(store, cold, blob), blobs.values())
    cold.put(manifest_name(backup_id), _naming(manifest, (blob for _, blob in found)).to_bytes())
    return copied + sum(sent for sent, _ in found)


def _copy(store: Store, cold: Store, name: str, digest: str) -> int:
    """Bytes sent. ObjectConflict: other bytes are there."""
    found = cold.stat(name)
    if found is not None and found.sha256 == digest:
        return 0
    return _send(store, cold, name, digest)


def _send(store: Store, cold: Store, name: str, digest: str) -> int:
    """The same, for one whose digest the second store does not tell."""
    data = store.get(name, digest)
    cold.put(name, data)
    return len(data)


def _copy_blob(store: Store, cold: Store, blob: Blob) -> tuple[int, Blob]:
    """Bytes sent, and the content as it lies in the second store.

    Its name tells content and keys. Of other bytes that are there the digest is the store's own, where it
    keeps one; else they are read, and as long as ours but for the header. `verify` with the key opens them.
    """
    name = blob_name(blob.plain_sha256)
    found = cold.stat(name)
    if found is not None and found.sha256 is not None:
        return 0, _sealed_as(blob, found.sha256, found.size)
    try:
        return _send(store, cold, name, blob.cipher_sha256), blob
    except ObjectConflict:
        theirs = cold.get(name)
        if payload_size(theirs) != payload_size(store.get(name, blob.cipher_sha256)):
            raise
        return 0, _sealed_as(blob, sha256(theirs), len(theirs))


def _sealed_as(blob: Blob, digest: str, size: int) -> Blob:
    return blob.model_copy(update={"cipher_sha256": digest, "stored_size": size})


def _naming(manifest: Manifest, blobs: Iterable[Blob]) -> Manifest:
    """The manifest with the contents of folders as the second store has them."""
    there = {blob.plain_sha256: blob for blob in blobs}

    def renamed(folder: Folder) -> Folder:
        kept = tuple(there[blob.plain_sha256] for blob in folder.blobs)
        return folder.model_copy(update={"blobs": kept})

    return manifest.model_copy(update={"folders": tuple(map(renamed, manifest.folders))})
