"""Services that are not ours, as the supervisor shows them."""

from __future__ import annotations

import pytest
import redis
from free_ports import free_port
from gateway_harness import until
from real_services import PASSWORD, RunningCluster

from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.services.keeping import NoAnswer
from dreamseed_cli.supervisor import elsewhere
from dreamseed_cli.supervisor.elsewhere import ExternalPostgres, ExternalRedis


async def test_a_database_without_the_schema_says_how_it_gets_there(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """serve changes nothing in a database that is not its own; once it was migrated, that is seen."""
    monkeypatch.setattr(elsewhere, "_SCHEMA_EVERY_S", 0.1)
    keeper = ExternalPostgres(lambda: postgres_dsn)

    async def says(wanted: str) -> bool:
        return wanted in (await keeper.probe() or "ready")

    await until(lambda: says("dreamseed db migrate"))
    migrate(postgres_dsn)
    await until(lambda: says("ready"))


async def test_a_database_server_that_is_not_there() -> None:
    """Within a bound."""
    keeper = ExternalPostgres(lambda: f"postgresql://u:secret@127.0.0.1:{free_port()}/d")
    with pytest.raises(NoAnswer) as refusal:
        await keeper.probe()
    assert "secret" not in str(refusal.value)


def _redis(monkeypatch: pytest.MonkeyPatch, *nodes: str, password: str = PASSWORD) -> ExternalRedis:
    monkeypatch.setenv("DS_TEST_PW", password)
    return ExternalRedis(ServiceAddresses(redis_nodes=nodes, redis_password_env="DS_TEST_PW", journal="/j"))


async def test_one_node_that_answers_is_enough(
    valkey: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others may be down."""
    dead = f"127.0.0.1:{free_port()}"
    assert await _redis(monkeypatch, dead, valkey.addresses[1]).probe() is None
    with pytest.raises(NoAnswer, match=dead):
        await _redis(monkeypatch, dead).probe()


async def test_a_wrong_password_is_told_and_not_shown(
    valkey: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster is there, and of no use to us."""
    with pytest.raises(NoAnswer) as refusal:
        await _redis(monkeypatch, *valkey.addresses, password="wrong-secret").probe()
    assert "password" in str(refusal.value)
    assert "wrong-secret" not in str(refusal.value)


async def test_a_cluster_that_does_not_serve(valkey: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers, and says so itself: here with slots that nobody has."""
    with redis.Redis(port=valkey.nodes[0].node.port, password=PASSWORD) as client:
        client.execute_command("CONFIG", "SET", "cluster-require-full-coverage", "yes")
        client.execute_command("CLUSTER", "DELSLOTS", "0")
        try:
            keeper = _redis(monkeypatch, valkey.addresses[0])

            async def told() -> bool:
                return "does not serve" in (await keeper.probe() or "")

            await until(told)
        finally:
            client.execute_command("CLUSTER", "ADDSLOTS", "0")
            client.execute_command("CONFIG", "SET", "cluster-require-full-coverage", "no")
