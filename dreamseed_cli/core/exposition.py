"""Metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, generate_latest

ONLY = "name[]"
"""The query's parameter, once for each name, by which Prometheus's clients ask for some metrics only."""


def exposition(registry: CollectorRegistry, names: Sequence[str] = ()) -> bytes:
    """A registry in Prometheus's text format. names: of these samples only; empty: of all."""
    return generate_latest(registry.restricted_registry(names) if names else registry)
