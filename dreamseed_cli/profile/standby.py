"""A second PostgreSQL that follows the first, and when to turn to it (§E3)."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from dreamseed_cli.profile.part import Part, Positive


class Standby(Part):
    """A streaming replica: `dreamseed db watch|promote|failback` go by this.

    Clients connect through libpq's service file, which is read again for every connection.
    """

    primary_dsn_env: str = "DREAMSEED_PRIMARY_URL"
    """The environment variable with the first server's connection string (a superuser's, for `failback`)."""
    replica_dsn_env: str = "DREAMSEED_REPLICA_URL"
    """The same of the second."""
    service: str = "dreamseed"
    """The service's name: the gateway's connection string is `service=dreamseed`."""
    service_file: str | None = None
    """Where libpq's service file lies, which clients find by $PGSERVICEFILE. None: `database.service` in the
    state folder."""
    probe_s: Positive = 2.0
    """How often both servers are asked; also how long an answer may take."""
    down_s: Positive = 15.0
    """How long the first server must be away without a break before reads turn to the second."""
    back_s: Positive = 60.0
    """How long it must be well again before they turn back; doubled with each turn, up to `most_back_s`."""
    most_back_s: Positive = 3600.0
    fence_command: tuple[str, ...] = ()
    """What makes sure that a server is dead and stays so, as an argument list without a shell; the server's
    role (`primary`, `replica`) is in $DREAMSEED_FENCE. Exit code 0: it is."""

    @model_validator(mode="after")
    def _noticed_by_more_than_one_look(self) -> Self:
        if self.down_s < 2 * self.probe_s:
            raise ValueError("down_s is less than two probes: a single lost answer would count as a failure")
        if self.most_back_s < self.back_s:
            raise ValueError("most_back_s is less than back_s")
        return self
