"""The second copy (§A1): a backup's objects as they are, still sealed, in another store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.names import blob_name, manifest_name, part_name
from dreamseed_cli.backup.store.base import Store


def copy_backup(store: Store, cold: Store, manifest: Manifest, *, threads: int = 2) -> int:
    """Copy a backup, its manifest last; what is there already is not sent again. Stored bytes copied.

    Needs no private key. Raises either store's errors: then the copy has no manifest, and the next run's copy
    is another one.
    """
    backup_id = manifest.identity.backup_id
    objects = {part_name(backup_id, part.index): part.cipher_sha256 for part in manifest.parts}
    for folder in manifest.folders:
        objects |= {blob_name(blob.plain_sha256): blob.cipher_sha256 for blob in folder.blobs}

    def copy(item: tuple[str, str]) -> int:
        name, sha256 = item
        found = cold.stat(name)
        if found is not None and found.sha256 == sha256:
            return 0
        data = store.get(name, sha256)
        cold.put(name, data)
        return len(data)

    with ThreadPoolExecutor(threads, thread_name_prefix="cold") as pool:
        copied = sum(pool.map(copy, objects.items()))
    cold.put(manifest_name(backup_id), manifest.to_bytes())
    return copied
