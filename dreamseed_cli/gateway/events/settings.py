"""What the supervisor tells the relay process: one JSON file at its start."""

from __future__ import annotations

from dreamseed_cli.profile.part import Part
from dreamseed_cli.profile.schema import Kafka


class RelaySettings(Part):
    """The relay process's configuration."""

    postgres_dsn: str | None = None
    postgres_dsn_env: str | None = None
    kafka: Kafka
