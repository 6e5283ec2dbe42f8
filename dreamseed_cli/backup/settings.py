"""A profile's `[backup]` table as this host uses it: paths, stores, keys and rules."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from dreamseed_cli.backup.home import backup_home
from dreamseed_cli.backup.keys import (
    Identity,
    NoKey,
    read_identities,
    read_passphrase,
    read_recipients,
)
from dreamseed_cli.backup.retention import Rules
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.open import StoreSettings, Task, open_store
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.profile.backup import Backup


@dataclass(frozen=True, slots=True)
class Settings:
    """home: this user's folder for keys, run records and, unless the table names another, the store."""

    table: Backup = field(default_factory=Backup)
    home: Path = field(default_factory=lambda: backup_home(os.environ))

    @property
    def store_url(self) -> str:
        return self.table.store or f"local:{self.home / 'store'}"

    @property
    def runs(self) -> Path:
        """The record of what became of the runs into this store (records)."""
        return self.home / "runs" / f"{sha256(self.store_url.encode()).hexdigest()[:16]}.json"

    @property
    def textfile(self) -> Path:
        """Where Prometheus's metrics of backups go: `dreamseed metrics` reads the default."""
        return _path(self.table.textfile, textfile_in(self.home))

    @property
    def key_file(self) -> Path:
        return _path(self.table.key_file, self.home / "key.txt")

    @property
    def recipients_file(self) -> Path:
        return _path(self.table.recipients_file, self.home / "recipients.txt")

    @property
    def wal_state(self) -> Path:
        """The folder in which `wal push` keeps what it knows: what is archived, and how it goes."""
        return self.home / "wal"

    @property
    def temp(self) -> Path:
        """Where dumps lie while they are made or restored."""
        return _path(self.table.temp, Path(tempfile.gettempdir()))

    @property
    def rules(self) -> Rules:
        kept = self.table.retention
        return Rules(kept.days, kept.daily, kept.weekly, kept.monthly, kept.point_in_time_days)

    def schedule_for(self, store: str | None) -> None:
        """Remember into which store backups run by themselves; None: into the profile's."""
        if store is None:
            self._scheduled.unlink(missing_ok=True)
            return
        self._scheduled.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self._scheduled, f"{store}\n".encode())

    def scheduled(self) -> Settings:
        """With the store into which backups run by themselves."""
        try:
            store = self._scheduled.read_text(encoding="utf-8").strip()
        except OSError:
            return self
        return replace(self, table=self.table.model_copy(update={"store": store}))

    @property
    def _scheduled(self) -> Path:
        return self.home / "runs" / "scheduled"

    def folders(self) -> dict[str, Path]:
        """What to take along, by name. MissingError if one is not there: left out, nobody would notice."""
        folders = {name: Path(path).expanduser() for name, path in self.table.folders.items()}
        for name, path in folders.items():
            if not path.is_dir():
                raise MissingError(
                    "there is no such folder", place=f"backup.folders.{name}: {path}", remedy="Mend the path."
                )
        return folders

    def open(self, task: Task = "daily", *, create: bool = False, limits: Limits | None = None) -> Store:
        """The store itself. limits: others than the usual ones. UsageError, MissingError: see open_store."""
        settings = self._store_settings("STANDARD")
        settings = settings if limits is None else replace(settings, limits=limits)
        return open_store(self.store_url, settings, task=task, create=create)

    def open_cold(self, *, create: bool = False) -> Store | None:
        """The second copy's store; None: there is none."""
        if self.table.cold is None:
            return None
        return open_store(self.table.cold, self._store_settings(self.table.cold_storage_class), create=create)

    def recipients(self) -> list[str]:
        """The public keys to encrypt to. NoKey before `backup init`."""
        return read_recipients(self.recipients_file)

    def passphrase(self, environment: Mapping[str, str] | None = None) -> str | None:
        """What locks the key file, if anything does."""
        file = self.table.passphrase_file
        return read_passphrase(
            None if file is None else Path(file).expanduser(),
            os.environ if environment is None else environment,
        )

    def identities(self, key_file: Path | None = None) -> list[Identity]:
        """The private keys. key_file: instead of the profile's. NoKey, KeyExposed, WrongKey."""
        return read_identities(key_file or self.key_file, self.passphrase())

    def identities_if_any(self) -> list[Identity]:
        """The private keys, or none on a host that has only public ones."""
        try:
            return self.identities()
        except NoKey:
            return []

    def _store_settings(self, s3_storage_class: str) -> StoreSettings:
        table = self.table
        return StoreSettings(
            b2_realm=table.b2_realm,
            s3_endpoint=table.s3_endpoint,
            s3_region=table.s3_region,
            s3_storage_class=s3_storage_class,
        )


def textfile_in(home: Path) -> Path:
    """The default place of the metrics of backups."""
    return home / "backup.prom"


def _path(chosen: str | None, default: Path) -> Path:
    return default if chosen is None else Path(chosen).expanduser()
