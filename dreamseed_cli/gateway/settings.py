"""What the supervisor tells the gateway process: one JSON file at its start, then the replica table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from dreamseed_cli.database.address import resolve_dsn
from dreamseed_cli.profile.part import Count, Part
from dreamseed_cli.profile.schema import Gateway


class ReplicaTarget(Part):
    """One engine as the gateway sees it."""

    name: str
    """`r0`, `r1`, ...: stable over restarts."""
    endpoint: str
    """An `engine.types.Endpoint` as text."""
    model: str
    """The model's name in requests to this engine."""
    ready: bool
    """Whether new requests may go there."""
    places: Count = 32
    """Requests it gets at a time: its `max_num_seqs`, or a guess for an engine that runs elsewhere."""
    state: str = ""
    """The supervisor's word for how it does, for the metrics."""
    reason: str = ""
    elsewhere: bool = False
    """Help from elsewhere, with a key of its own and none of vLLM's extensions taken for granted."""
    api_key_env: str | None = None
    """The environment variable with that key."""
    expected_in_s: float | None = None
    """When it will probably be ready, if it is not: requests that have so long may wait. None: unknown."""


class ServiceAddresses(Part):
    """Where the services are; None or empty: off. Secrets stay in files and environment variables."""

    postgres_dsn: str | None = None
    """libpq's connection string without a password (embedded: a Unix socket)."""
    postgres_dsn_env: str | None = None
    """The environment variable that holds one (external); wins over postgres_dsn."""
    redis_nodes: tuple[str, ...] = ()
    """HOST:PORT of cluster nodes."""
    redis_password_file: str | None = None
    redis_password_env: str | None = None
    redis_tls: bool = False
    journal: str
    """The folder of the local journal that every event is written to first."""
    keep_events: bool = True
    """Whether events go to the outbox; False records requests only."""
    events_relayed: bool = True
    """Whether a relay publishes them to Kafka; False: the outbox is where they end, kept for some days."""
    keep_requests_days: Annotated[int, Field(ge=0, le=36500)] = 0
    """How long a request's row is kept; 0: for ever."""

    def dsn(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """Where PostgreSQL is; None: off. MissingError if the variable that holds it is not set."""
        return resolve_dsn(self.postgres_dsn, self.postgres_dsn_env, environment)


class GatewaySettings(Part):
    """The gateway process's configuration."""

    gateway: Gateway
    served_name: str
    """The model's name towards clients."""
    api: Literal["chat", "completions"]
    model_revision: str = ""
    """What tells this model and its quantisation from any other under the same name; part of a cache key."""
    max_model_len: int | None
    """Longest prompt and answer together, in tokens; None if only the engine knows."""
    usage_per_chunk: bool
    """Whether the engine counts tokens in every chunk (`continuous_usage_stats`: vLLM, emulated)."""
    simulated: bool
    """Whether answers come from the emulated engine."""
    api_key_env: str | None
    admin_socket: str
    """Unix socket of the admin interface: `PUT /replicas` takes a list of ReplicaTarget, `GET /stats`."""
    replicas: tuple[ReplicaTarget, ...]
    services: ServiceAddresses | None = None
    """None: nothing but generation."""
