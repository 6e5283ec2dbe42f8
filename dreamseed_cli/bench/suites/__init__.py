"""The suites: each asks its own question of the box."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from dreamseed_cli.bench.suites.base import Retell, Suite

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

IN_ROUNDS: dict[str, str] = {"engine": "engine.engine_result", "batching": "batching.batching_result"}
"""Those whose cells can be measured in rounds: what says anew what they say."""

OWN_LOAD = frozenset({"db", "api", "load"})
"""Those whose load is pgbench's or Locust's: a cancellation ends it, and they give what they have."""


def load_suite(name: str) -> Suite:
    """A suite by its name; what it needs is imported now, not with the command line."""
    return cast("Suite", _load(SUITES[name]))


def load_retell(name: str) -> Retell:
    """What makes the result of a suite of IN_ROUNDS from its cells."""
    return cast("Retell", _load(IN_ROUNDS[name]))


def _load(place: str) -> object:
    module, _, function = place.partition(".")
    return getattr(import_module(f"{__name__}.{module}"), function)
