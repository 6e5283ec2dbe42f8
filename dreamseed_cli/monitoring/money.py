"""What the fallback has cost this month, from the leases that fronts took (docs/runbooks/api.md)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.database.connection import connected
from dreamseed_cli.supervisor.running import gateway_settings

_THIS_MONTH = (
    "SELECT coalesce(sum(coalesce(spent_usd, granted_usd)), 0) FROM fallback_leases"
    " WHERE month = date_trunc('month', now() AT TIME ZONE 'UTC')::date"
)


def fallback_metrics(state: StateDir) -> bytes:
    """US dollars spent or lent. Nothing where the stack does without PostgreSQL. Blocks."""
    settings = gateway_settings(state)
    services = settings.services if settings is not None else None
    dsn = services.dsn() if services is not None else None
    if dsn is None:
        return b""
    with connected(dsn) as connection:
        row = connection.execute(_THIS_MONTH).fetchone()
    assert row is not None  # noqa: S101 - a sum has one row
    registry = CollectorRegistry()
    Gauge(
        "dreamseed_fallback_committed_usd",
        "What fronts spent on the fallback this month (UTC), or borrowed for it",
        registry=registry,
    ).set(float(row[0]))
    return generate_latest(registry)
