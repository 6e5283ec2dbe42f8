"""§E3's steps with Cloud SQL: the exact commands, and what a stopped db-f1-micro of version 15 cannot do.

From Google's pages "Replicating from an external server", "Manage read replicas" and "Start, stop and restart
instances" for PostgreSQL, and `gcloud sql instances --help`. Nothing here runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INSTANCE: Final = "dreamseed-dr"
REGION: Final = "asia-northeast3"

LIMITS: Final = (
    "Cloud SQL: a stopped instance does not replicate. One 'normally stopped, started only on failure'"
    " (§E3) holds what it held when it was stopped; its RPO is the time since then.",
    "Cloud SQL takes no physical replication from outside: it follows by logical replication or a dump, which"
    " carries no schema changes, sequences or large objects by itself. Promoted, it cannot feed a physical"
    " standby at home either: the way back is a dump or logical replication.",
    "Cloud SQL: 'binary log' is a setting of MySQL; PostgreSQL's is point-in-time recovery (WAL).",
    "Cloud SQL db-f1-micro shares a core, has 0.6 GB of memory and no SLA, and PostgreSQL 15 is older than"
    " the embedded 18: a logical backup of 18 may not restore there.",
)
"""What no drill on this machine shows."""


@dataclass(frozen=True, slots=True)
class Item:
    """One step of the checklist. commands: to be typed as they stand."""

    step: str
    commands: tuple[str, ...]
    note: str = ""


def checklist(instance: str = INSTANCE, region: str = REGION) -> tuple[Item, ...]:
    """§E3's four steps for the instance, in order, beginning with what must be true before."""
    gcloud = "gcloud sql instances"
    return (
        Item(
            "Before: it runs and follows",
            (
                f"{gcloud} patch {instance} --activation-policy=ALWAYS",
                f"{gcloud} describe {instance} --format='value(state,settings.activationPolicy)'",
                f"gcloud database-migration migration-jobs list --region={region}",
            ),
            "An instance started only on failure has old data: let it run, or restore the newest backup.",
        ),
        Item(
            "1. Notice",
            ("dreamseed db watch --profile PROFILE",),
            "On another machine than the primary: one that dies with it notices nothing.",
        ),
        Item(
            "2. Read-only",
            (f"{gcloud} describe {instance} --format='value(ipAddresses[0].ipAddress)'",),
            "`db watch` turns the service file to $DREAMSEED_REPLICA_URL by itself.",
        ),
        Item(
            "3. Promote, by hand, once the old primary is dead",
            (
                f"{gcloud} promote-replica {instance}",
                f"gcloud database-migration migration-jobs promote JOB --region={region}",
                "dreamseed db promote --profile PROFILE --old-primary-is-dead",
            ),
            "The first for a read replica, the second for a migration job; never both.",
        ),
        Item(
            "4. Back home: no physical way, so by dump",
            (
                f"{gcloud} patch {instance} --database-flags=default_transaction_read_only=on",
                "pg_dump --format=directory --jobs=4 --file=back CONNECTION_OF_CLOUD_SQL",
                "pg_restore --jobs=4 --clean --if-exists --dbname=CONNECTION_OF_HOME back",
                f"{gcloud} patch {instance} --activation-policy=NEVER",
            ),
            "Writes stand still for as long as the dump and the restore take.",
        ),
    )
