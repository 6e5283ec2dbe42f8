"""A logical backup into a local store, with a manifest, as a run makes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dreamseed_cli.backup.keys import NewKeys, parse_recipients
from dreamseed_cli.backup.logical.digests import METHOD
from dreamseed_cli.backup.logical.dump import LogicalFacts
from dreamseed_cli.backup.manifest import (
    Compression,
    Folder,
    Identity,
    Level,
    Manifest,
    Producer,
    Proof,
    Span,
    StoredPart,
    Stream,
    Versions,
)
from dreamseed_cli.backup.names import Kind, new_backup_id
from dreamseed_cli.backup.pipeline import Downloader, Uploader
from dreamseed_cli.backup.store.base import Store

KEYS = NewKeys.create()
AT = datetime(2025, 11, 10, 3, tzinfo=UTC)


def new_uploader(store: Store, *, part_bytes: int = 64 * 1024, threads: int = 2) -> Uploader:
    """For a new backup id; parts are small, so that there are several."""
    recipients = parse_recipients(KEYS.recipients, place="test")
    backup_id = new_backup_id(Kind.LOGICAL, AT)
    return Uploader(store, backup_id, recipients, threads=threads, part_bytes=part_bytes)


def new_downloader(store: Store, manifest: Manifest) -> Downloader:
    """With the daily key."""
    return Downloader(store, manifest, [KEYS.daily])


def manifest_of(
    backup_id: str,
    streams: Sequence[Stream],
    parts: Sequence[StoredPart],
    facts: LogicalFacts | None = None,
    folders: Sequence[Folder] = (),
) -> Manifest:
    """A manifest of what was uploaded; what no test looks at is made up."""
    server = facts.server if facts else None
    return Manifest(
        identity=Identity(
            backup_id=backup_id,
            kind=Kind.LOGICAL,
            sequence=1,
            system_identifier=server.system_identifier if server else "7",
            cluster="main",
            host="test",
        ),
        versions=Versions(
            dreamseed="1",
            server=server.version if server else "18.0",
            server_version_num=server.version_num if server else 180000,
        ),
        span=Span(started=AT, ended=AT, duration_s=1.0),
        wal=None,
        producers=facts.producers if facts else (Producer(name="test", version="1", exit_code=0),),
        streams=tuple(streams),
        parts=tuple(parts),
        databases=facts.databases if facts else (),
        extensions=facts.extensions if facts else (),
        roles=server.roles if server else (),
        tables=facts.tables if facts else (),
        digest_method=METHOD,
        folders=tuple(folders),
        compression=Compression(level=3),
        recipients=KEYS.recipients,
        proof=Proof(level=Level.REREAD, at=AT),
    )


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs, some of them replaced by scripts of a folder."""

    real: Path
    fakes: Path

    def __call__(self, name: str) -> Path:
        fake = self.fakes / name
        return fake if fake.exists() else self.real / name

    def fake(self, name: str, script: str) -> None:
        """Put a shell script in a program's place."""
        path = self.fakes / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
