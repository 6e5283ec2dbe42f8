"""Who looks after each service of a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.services.keeping import Keeper
from dreamseed_cli.services.postgres_keeper import PostgresKeeper
from dreamseed_cli.services.valkey_keeper import ValkeyCluster, ValkeyKeeper
from dreamseed_cli.supervisor.elsewhere import ExternalPostgres, ExternalRedis
from dreamseed_cli.supervisor.relay_keeper import RelayKeeper
from dreamseed_cli.supervisor.service_plan import POSTGRES, REDIS, RELAY, ServicesPlan


def keepers_for(plan: ServicesPlan) -> Mapping[str, Keeper]:
    """A keeper for every watched service, by its name. Make them inside a running event loop."""
    made: dict[str, Keeper] = {}
    for service in plan.watched:
        if service.name == POSTGRES:
            made[POSTGRES] = _postgres(plan)
        elif service.name == REDIS:
            made[REDIS] = ExternalRedis(plan.addresses)
        elif service.name == RELAY:
            made[RELAY] = RelayKeeper()
    if plan.valkey:
        cluster = ValkeyCluster(plan.valkey, Path(plan.addresses.redis_password_file or ""))
        made.update({f"valkey-{i}": ValkeyKeeper(cluster, node) for i, node in enumerate(plan.valkey)})
    return made


def _postgres(plan: ServicesPlan) -> Keeper:
    if plan.postgres is None:
        return ExternalPostgres(_dsn(plan.addresses))
    return PostgresKeeper(plan.postgres, migrate=_migrate)


def _dsn(addresses: ServiceAddresses) -> Callable[[], str]:
    def resolve() -> str:
        return addresses.dsn() or ""

    return resolve


def _migrate(dsn: str) -> None:
    # Alembic and SQLAlchemy take half a second to import: in the thread that needs them.
    from dreamseed_cli.database.migrate import migrate

    migrate(dsn)
