"""The suites: each asks its own question of the box."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from dreamseed_cli.bench.suites.base import Suite

SUITES: dict[str, str] = {
    "engine": "engine.engine_suite",
    "capacity": "capacity.capacity_suite",
    "batching": "batching.batching_suite",
    "cache": "cache.cache_suite",
    "db": "db.db_suite",
    "api": "api.api",
    "load": "load.load",
}
"""By name, in the order in which `all` runs them: module and function."""

TAKE_WORKLOAD = frozenset({"engine", "capacity", "batching"})
"""Those that ask for whatever workload the operator names."""

NEED_SERVICES = frozenset({"cache", "db", "api", "load"})
"""Those that want PostgreSQL and the cache's cluster beside the engines."""

OWN_LOAD = frozenset({"db", "api", "load"})
"""Those whose load is pgbench's or Locust's: a cancellation ends it, and they give what they have."""


def load_suite(name: str) -> Suite:
    """A suite by its name; what it needs is imported now, not with the command line."""
    module, _, function = SUITES[name].partition(".")
    return cast("Suite", getattr(import_module(f"{__name__}.{module}"), function))
