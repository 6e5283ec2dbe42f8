"""What is backed up, where to, for how long, and how much may be lost (§E2, §E3)."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dreamseed_cli.profile.part import Count, Part, Positive

Days = Annotated[int, Field(ge=0)]


class Retention(Part):
    """How long backups stay. Whatever it says: the newest, the newest proven, and pinned ones stay."""

    days: Count = 30
    """Everything as young as this stays (§E2)."""
    daily: Days = 7
    """The newest backup of each of the last so many days that have one."""
    weekly: Days = 4
    monthly: Days = 6
    point_in_time_days: Count | None = 30
    """How far back every moment can be restored, with physical backups and the WAL archive."""

    @model_validator(mode="after")
    def _backups_reach_as_far(self) -> Self:
        if self.point_in_time_days is not None and self.point_in_time_days > self.days:
            raise ValueError("point_in_time_days is more than days: the backups it needs are deleted before")
        return self


class Schedule(Part):
    """When backups run by themselves (`dreamseed schedule`)."""

    at: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] = "03:00"
    """The hour of every day in `timezone` (§E2: 03:00). A time that the clock skips is made up for after."""
    timezone: str | None = None
    """Such as `Asia/Seoul`; None: this machine's."""
    retry_after_s: Positive = 3600.0
    """How long after a failed run the next try begins."""
    late_after_s: Positive = 7200.0
    """How long after its hour a backup that is not there yet counts as late."""


class Notify(Part):
    """Who is told when backups fail, are late, or work again."""

    command: tuple[str, ...] = ()
    """A command as an argument list, without a shell; the message comes on its stdin."""
    webhook_env: str | None = None
    """The environment variable with the address that the message is posted to as JSON: it is a secret."""
    timeout_s: Positive = 20.0


class Backup(Part):
    """Backups and the WAL archive. Keys of stores come from the environment, never from here."""

    store: str | None = None
    """`local:PATH`, `b2:BUCKET/PREFIX` or `s3:BUCKET/PREFIX`; one store belongs to one cluster. None: a
    folder of this user, which does not outlive this machine's disk."""
    cold: str | None = None
    """A second store that every backup is copied to (§A1), such as `s3:BUCKET/PREFIX`."""
    b2_realm: str = "production"
    """`production`, or the address of a server that speaks B2's native API."""
    s3_endpoint: str | None = None
    """The address of an S3-compatible server; None: AWS."""
    s3_region: str = "us-east-1"
    cold_storage_class: str = "STANDARD"
    """The storage class in the cold store: `GLACIER_IR` on AWS, `STANDARD` on R2."""
    key_file: str | None = None
    """The private key; only restoring and verifying contents need it. None: where `backup init` writes it."""
    passphrase_file: str | None = None
    """A file with the passphrase that locks the key; None: $DREAMSEED_BACKUP_PASSPHRASE, if it is locked."""
    recipients_file: str | None = None
    """The public keys to encrypt to. None: where `backup init` writes them."""
    kind: Literal["logical", "physical"] = "physical"
    """What the schedule makes. Point-in-time recovery needs `physical`."""
    digests: bool = True
    """Whether a physical backup digests every table, which reads them once more, so that a restore can prove
    what they hold. A logical one always does."""
    temp: str | None = None
    """A folder with room for the dump of the largest database; None: $TMPDIR. Logical backups need it."""
    compression_level: Annotated[int, Field(ge=-7, le=19)] = 3
    """zstd's."""
    threads: Annotated[int, Field(ge=1, le=8)] = 2
    """Parts that are sealed and sent at a time; each takes about 100 MiB of memory."""
    folders: dict[str, str] = Field(default_factory=dict)
    """Folders to take along, each under a name (§C3): `uploads = "/srv/uploads"`."""
    rpo_target_s: Positive = 900.0
    """How much work may be lost at most, in seconds (§E3: 15 minutes)."""
    textfile: str | None = None
    """None: a file that `dreamseed metrics` reads. Else one for Prometheus's textfile collector, such as
    `/var/lib/node_exporter/textfile_collector/dreamseed_backup.prom`."""
    retention: Retention = Retention()
    schedule: Schedule = Schedule()
    notify: Notify = Notify()

    @model_validator(mode="after")
    def _stores_differ(self) -> Self:
        if self.cold is not None and self.cold == self.store:
            raise ValueError("cold and store are the same place: a second copy must lie elsewhere")
        return self

    @model_validator(mode="after")
    def _folders_have_names(self) -> Self:
        for name in self.folders:
            if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name) is None:
                raise ValueError(f"folders: '{name}' is no name: use a-z, 0-9 and '-'")
        return self
