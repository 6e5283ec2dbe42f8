"""The servers that other tests lean on are the real ones, and behave."""

from __future__ import annotations

import psycopg
import redis.cluster
from confluent_kafka import Producer
from real_services import PASSWORD, MockKafka, RunningCluster


def test_every_test_gets_an_empty_database_of_its_own(postgres_dsn: str) -> None:
    """A database is there, and nothing is in it."""
    with psycopg.connect(postgres_dsn) as connection:
        count = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchone()
    assert count == (0,)


def test_three_valkey_nodes_are_one_cluster(valkey: RunningCluster) -> None:
    """Keys land on all three nodes, and a client that knows one finds them."""
    host, port = valkey.addresses[0].split(":")
    client = redis.cluster.RedisCluster(host=host, port=int(port), password=PASSWORD)
    for number in range(30):
        client.set(f"key-{number}", number)
    held = [redis.Redis(port=node.node.port, password=PASSWORD).dbsize() for node in valkey.nodes]
    client.close()
    assert sum(held) == 30
    assert all(held)


def test_three_brokers_take_messages(kafka: MockKafka) -> None:
    """What is produced with acks=all is acknowledged."""
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": kafka.brokers, "acks": "all"})
    for number in range(30):
        producer.produce(
            "t", key=str(number), value=b"x", on_delivery=lambda error, _: failures.append(error)
        )
    assert producer.flush(10) == 0
    assert failures == [None] * 30
