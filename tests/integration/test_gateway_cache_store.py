"""The answer store on a real cluster of three, whose nodes die, hang, stutter and return."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import real_services
import redis
from free_ports import free_port
from gateway_harness import until
from real_services import PASSWORD, RunningCluster
from redis.asyncio.cluster import ClusterNode
from redis.cluster import RedisCluster
from redis.crc import key_slot

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.gateway.cache import store as store_module
from dreamseed_cli.gateway.cache.entry import CachedAnswer, pack
from dreamseed_cli.gateway.cache.store import PREFIX, AnswerStore
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.settings import ServiceAddresses

ANSWER = CachedAnswer("Because of Rayleigh scattering.", "stop", 7, 6, simulated=True)
_PATIENT_S = 5.0
_BOUND_S = 0.020
# Generous: the bound is 20 ms; a machine under tests may take longer to run us again.
_AT_ONCE_S = 20.0


@pytest.fixture(autouse=True)
def _patient_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test keeps is there for certain, also where the machine is busy."""
    monkeypatch.setattr(store_module, "_WRITE_S", _PATIENT_S)


@asynccontextmanager
async def _store(
    cluster: RunningCluster,
    metrics: GatewayMetrics | None = None,
    *,
    ready: bool = True,
    read_s: float = _PATIENT_S,
) -> AsyncIterator[AnswerStore]:
    """A store on the cluster; `ready`: wait until it reaches all three nodes.

    read_s: patient, unless the test is about a node that does not answer: the machine may be busy.
    """
    nodes = [("127.0.0.1", running.node.port) for running in cluster.nodes]
    metrics = metrics or GatewayMetrics()
    store = AnswerStore(nodes, password=PASSWORD, tls=False, watch=metrics.watch_dependency, read_s=read_s)
    store.start()
    try:
        if ready:
            await until(lambda: _reaches(store, 3))
        yield store
    finally:
        await store.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, others


@pytest.fixture
def own_cluster() -> Iterator[RunningCluster]:
    """A cluster that the test may break."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-vk-") as folder,
        real_services.valkey_cluster(Path(folder)) as cluster,
    ):
        yield cluster


def _reaches(store: AnswerStore, nodes: int) -> bool:
    lanes = store._lanes.values()
    return sum(pair.reading.connected and pair.writing.connected for pair in lanes) == nodes


def _keys(store: AnswerStore, port: int, count: int = 3) -> list[str]:
    """Some keys that live on the node at `port`."""
    keys = (f"key-{number}" for number in range(10_000))
    found = [key for key in keys if (node := store._map.node_of(PREFIX + key)) and node.port == port]
    assert len(found) >= count
    return found[:count]


def _direct(cluster: RunningCluster) -> RedisCluster:
    return RedisCluster(host="127.0.0.1", port=cluster.nodes[0].node.port, password=PASSWORD)


async def _keep(store: AnswerStore, key: str, answer: CachedAnswer = ANSWER, ttl_s: int = 60) -> None:
    done = asyncio.Event()
    store.put(key, answer, ttl_s=ttl_s, done=done.set)
    await asyncio.wait_for(done.wait(), 60)


async def _kept(store: AnswerStore, key: str) -> CachedAnswer | None:
    """get() within its bound; None also when the node does not say."""
    try:
        return await asyncio.wait_for(store.get(key), _AT_ONCE_S)
    except DependencyDown:
        return None


async def test_what_is_kept_comes_back_until_its_time_is_over(valkey: RunningCluster) -> None:
    """On every node; with the time to live that was asked for."""
    async with _store(valkey) as store:
        for running in valkey.nodes:
            for key in _keys(store, running.node.port):
                assert await store.get(key) is None
                await _keep(store, key, ttl_s=3600)
                assert await store.get(key) == ANSWER
        direct = _direct(valkey)
        kept = list(direct.scan_iter(match="*", target_nodes=RedisCluster.PRIMARIES))
        assert len(kept) == 9
        assert all(3500 < direct.ttl(name) <= 3600 for name in kept)
        assert all(name.startswith(PREFIX.encode()) for name in kept)
        direct.close()
        await _keep(store, "brief", ttl_s=1)
        await until(lambda: _is_gone(store, "brief"))


async def _is_gone(store: AnswerStore, key: str) -> bool:
    return await _kept(store, key) is None


async def test_a_hundred_look_ups_at_once_each_get_their_own(valkey: RunningCluster) -> None:
    """They share connections and pipelines, never replies."""
    async with _store(valkey) as store:
        answers = {f"k{n}": CachedAnswer(f"answer {n}", "stop", n, n, simulated=False) for n in range(100)}
        await asyncio.gather(*(_keep(store, key, answer) for key, answer in answers.items()))
        asked = [*answers, *(f"absent{n}" for n in range(100))] * 3
        found = await asyncio.gather(*(store.get(key) for key in asked))
        assert found == [answers.get(key) for key in asked]


async def test_callers_that_leave_spoil_no_connection(valkey: RunningCluster) -> None:
    """Cancelled at any point, they leave the others' replies where they belong, on the same connections."""
    async with _store(valkey) as store:
        answers = {f"k{n}": CachedAnswer(f"answer {n}", "stop", n, n, simulated=False) for n in range(60)}
        await asyncio.gather(*(_keep(store, key, answer) for key, answer in answers.items()))
        for turns in range(12):
            tasks = {key: asyncio.create_task(store.get(key)) for key in answers}
            for _ in range(turns):
                await asyncio.sleep(0)
            leaving = [key for number, key in enumerate(answers) if number % 3]
            for key in leaving:
                tasks[key].cancel()
            for key, task in tasks.items():
                if key not in leaving:
                    assert await task == answers[key]
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert _reaches(store, 3)


async def test_a_corrupted_value_is_a_miss_and_deleted(valkey: RunningCluster) -> None:
    """Whatever wrote it."""
    async with _store(valkey) as store:
        direct = _direct(valkey)
        for number, value in enumerate((b"", b"\x01", b"\x01garbage", b"\x01" + pack(ANSWER)[1:-3])):
            key = f"bad{number}"
            direct.set(PREFIX + key, value)
            assert await store.get(key) is None
            await until(lambda key=key: direct.exists(PREFIX + key) == 0)
        direct.close()


async def test_another_versions_value_is_a_miss_and_stays(valkey: RunningCluster) -> None:
    """A gateway that is older or newer still reads it."""
    async with _store(valkey) as store:
        direct = _direct(valkey)
        direct.set(PREFIX + "newer", b"\x02whatever")
        assert await store.get("newer") is None
        direct.lpush(PREFIX + "list", "not a string at all")
        assert await _kept(store, "list") is None
        await _keep(store, "other")
        assert await store.get("other") == ANSWER
        assert direct.get(PREFIX + "newer") == b"\x02whatever"
        direct.close()


async def test_too_long_an_answer_and_too_many_at_once_are_not_kept(valkey: RunningCluster) -> None:
    """Memory stays bounded; every put ends."""
    async with _store(valkey) as store:
        await _keep(store, "long", CachedAnswer("x" * 262_144, "stop", 1, 1, simulated=False))
        assert await store.get("long") is None
        ended: list[int] = []
        big = CachedAnswer("x" * 250_000, "stop", 1, 1, simulated=False)
        for number in range(500):
            store.put(f"big{number}", big, ttl_s=60, done=partial(ended.append, number))
        assert store._waiting_bytes <= 16 * 1024 * 1024
        await until(lambda: len(ended) == 500)
        assert store._waiting_bytes == 0
        found = [key for key in (f"big{n}" for n in range(500)) if await _kept(store, key) == big]
        assert 0 < len(found) < 100


async def test_a_cluster_that_comes_later_is_found(own_cluster: RunningCluster) -> None:
    """The store starts without it, answers at once that it does not know, and needs no restart."""
    metrics = GatewayMetrics()
    for running in own_cluster.nodes:
        running.kill()
    async with _store(own_cluster, metrics, ready=False) as store:
        with pytest.raises(DependencyDown):
            await asyncio.wait_for(store.get("key"), _AT_ONCE_S)
        store.put("key", ANSWER, ttl_s=60)
        await until(lambda: _state(metrics, "redis") == 2)
        for running in own_cluster.nodes:
            running.start()
        await until(lambda: _reaches(store, 3))
        await until(lambda: _round_trip(store, "key"))
        assert _state(metrics, "redis") == 0


async def test_one_dead_node_takes_only_its_own_keys_with_it(own_cluster: RunningCluster) -> None:
    """The other two serve theirs; it is found again when it returns."""
    metrics = GatewayMetrics()
    async with _store(own_cluster, metrics, read_s=_BOUND_S) as store:
        dead, *alive = own_cluster.nodes
        lost = _keys(store, dead.node.port)
        safe = [key for running in alive for key in _keys(store, running.node.port)]
        for key in (*lost, *safe):
            await _keep(store, key)
        dead.kill()
        await _ask_until_opened(store, lost[0], metrics, dead.node.address)
        for _ in range(20):
            with pytest.raises(DependencyDown):
                await asyncio.wait_for(store.get(lost[0]), _AT_ONCE_S)
            for key in safe:
                await until(lambda key=key: _has(store, key))
        dead.start()
        await until(lambda: _reaches(store, 3))
        for key in lost:
            await until(lambda key=key: _round_trip(store, key))
        for key in safe:
            assert await _kept(store, key) == ANSWER
        assert _state(metrics, f"redis {dead.node.address}") == 0


async def test_a_node_that_hangs_delays_nobody_for_long(own_cluster: RunningCluster) -> None:
    """Its keys are misses, after one bounded wait at once; the others' stay hits; it comes back whole."""
    metrics = GatewayMetrics()
    async with _store(own_cluster, metrics, read_s=_BOUND_S) as store:
        stopped, *alive = own_cluster.nodes
        lost = _keys(store, stopped.node.port, 30)
        safe = [key for running in alive for key in _keys(store, running.node.port)]
        answers = {key: CachedAnswer(f"of {key}", "stop", 1, 1, simulated=False) for key in (*lost, *safe)}
        for key, answer in answers.items():
            await _keep(store, key, answer)
        stopped.pause()
        began = time.monotonic()
        results = await asyncio.gather(*(store.get(key) for key in lost), return_exceptions=True)
        assert all(isinstance(result, DependencyDown) for result in results)
        assert time.monotonic() - began < _AT_ONCE_S
        await _ask_until_opened(store, lost[0], metrics, stopped.node.address)
        for key in safe:
            await until(lambda key=key: _gives(store, key, answers[key]))
        stopped.resume()
        await until(lambda: _reaches(store, 3))
        for key, answer in answers.items():
            await until(lambda key=key, answer=answer: _gives(store, key, answer))
        assert all(_state(metrics, f"redis {running.node.address}") == 0 for running in alive)


async def test_a_late_reply_is_nobody_elses(own_cluster: RunningCluster) -> None:
    """A node that stutters answers look-ups that were given up; the others get their own answer or none."""
    async with _store(own_cluster, read_s=_BOUND_S) as store:
        stuttering = own_cluster.nodes[0]
        answers = {
            key: CachedAnswer(f"of {key}", "stop", 1, 1, simulated=False)
            for key in _keys(store, stuttering.node.port, 20)
        }
        for key, answer in answers.items():
            await _keep(store, key, answer)
        found = 0
        for _ in range(15):
            stuttering.pause()
            given_up = [asyncio.create_task(_kept(store, key)) for key in answers]
            await asyncio.wait(given_up, return_when=asyncio.FIRST_COMPLETED)
            stuttering.resume()
            for key, answer in answers.items():
                kept = await _kept(store, key)
                assert kept in (None, answer)
                found += kept is not None
            for task, answer in zip(given_up, answers.values(), strict=True):
                assert await task in (None, answer)
            await until(lambda: _gives(store, *next(iter(answers.items()))))
        assert found


async def test_a_restarted_node_costs_no_long_absence(own_cluster: RunningCluster) -> None:
    """Connections to what it was before are noticed and replaced."""
    async with _store(own_cluster) as store:
        restarted = own_cluster.nodes[0]
        key = _keys(store, restarted.node.port)[0]
        restarted.kill()
        restarted.start()
        await until(lambda: _round_trip(store, key))


async def test_a_moved_slot_is_found_at_its_new_node(own_cluster: RunningCluster) -> None:
    """The map is looked up again when a node says that it is not its slot."""
    async with _store(own_cluster) as store:
        source, target = own_cluster.nodes[0].node, own_cluster.nodes[1].node
        key = _keys(store, source.port)[0]
        slot = key_slot((PREFIX + key).encode())
        clients: list[Any] = [
            redis.Redis(port=running.node.port, password=PASSWORD) for running in own_cluster.nodes
        ]
        identity = clients[1].execute_command("CLUSTER MYID").decode()
        for client in (clients[1], clients[0], clients[2]):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", identity)
            client.close()
        await until(lambda: _round_trip(store, key))
        moved_to = store._map.node_of(PREFIX + key)
        assert moved_to is not None
        assert moved_to.port == target.port


async def test_a_wrong_password_is_a_cache_that_is_away(valkey: RunningCluster) -> None:
    """Nothing is raised but that; close() ends it all."""
    nodes = [("127.0.0.1", valkey.nodes[0].node.port)]
    metrics = GatewayMetrics()
    store = AnswerStore(nodes, password="wrong", tls=False, watch=metrics.watch_dependency)
    store.start()
    await until(lambda: _state(metrics, "redis") == 2)
    with pytest.raises(DependencyDown):
        await store.get("key")
    await store.close()


async def test_a_node_that_takes_no_writes_shows_in_the_metrics() -> None:
    """Its writes have a breaker of their own, beside the look-ups'; a node that left is not missing."""
    metrics, node = GatewayMetrics(), ClusterNode("127.0.0.1", free_port())
    store = AnswerStore([("127.0.0.1", 1)], password=None, tls=False, watch=metrics.watch_dependency)
    lanes = store._lanes[node.name] = store._make_lanes(node)
    writes = f"redis {node.name} (writes)"

    async def opened() -> bool:
        lanes.writing.connect()
        return _state(metrics, writes) == 2

    assert _state(metrics, writes) == 0
    await until(opened)
    assert _state(metrics, f"redis {node.name}") == 0
    store._drop(node.name, lanes)
    assert _state(metrics, writes) == 0
    await store.close()


async def test_it_closes_in_time_while_nodes_hang(own_cluster: RunningCluster) -> None:
    """With writes and look-ups under way; each of them ends."""
    async with _store(own_cluster) as store:
        keys = [key for running in own_cluster.nodes for key in _keys(store, running.node.port)]
        for running in own_cluster.nodes:
            running.pause()
        ended: list[str] = []
        for key in keys:
            store.put(key, ANSWER, ttl_s=60, done=partial(ended.append, key))
        asked = [asyncio.create_task(_kept(store, key)) for key in keys]
        await asyncio.sleep(0)
        await asyncio.wait_for(store.close(), 60)
        assert await asyncio.gather(*asked) == [None] * len(keys)
        await until(lambda: len(ended) == len(keys))
        with pytest.raises(DependencyDown):
            await store.get(keys[0])
        for running in own_cluster.nodes:
            running.resume()


async def test_where_the_cluster_is_comes_from_the_settings(
    valkey: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password from a file or the environment; without nodes there is no store."""
    watch = GatewayMetrics().watch_dependency
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    port = valkey.nodes[0].node.port
    addresses = ServiceAddresses(
        journal=str(tmp_path), redis_nodes=(f"localhost:{port}",), redis_password_file=str(secret)
    )
    store = AnswerStore.from_addresses(addresses, watch)
    assert store is not None
    store.start()
    await until(lambda: _reaches(store, 3))
    await store.close()

    assert AnswerStore.from_addresses(ServiceAddresses(journal=str(tmp_path)), watch) is None
    named = addresses.model_copy(update={"redis_password_env": "A_VARIABLE"})
    with pytest.raises(MissingError, match="A_VARIABLE"):
        AnswerStore.from_addresses(named, watch)
    monkeypatch.setenv("A_VARIABLE", PASSWORD)
    assert AnswerStore.from_addresses(named, watch) is not None
    missing = addresses.model_copy(update={"redis_password_file": str(tmp_path / "absent")})
    with pytest.raises(MissingError, match="absent"):
        AnswerStore.from_addresses(missing, watch)
    with pytest.raises(UsageError, match="HOST:PORT"):
        AnswerStore.from_addresses(addresses.model_copy(update={"redis_nodes": ("nowhere",)}), watch)


async def _ask_until_opened(store: AnswerStore, key: str, metrics: GatewayMetrics, address: str) -> None:
    async def opened() -> bool:
        assert await _kept(store, key) is None
        return _state(metrics, f"redis {address}") == 2

    await until(opened)


async def _has(store: AnswerStore, key: str) -> bool:
    return await _kept(store, key) == ANSWER


async def _gives(store: AnswerStore, key: str, answer: CachedAnswer) -> bool:
    return await _kept(store, key) == answer


async def _round_trip(store: AnswerStore, key: str) -> bool:
    await _keep(store, key)
    return await _has(store, key)


def _state(metrics: GatewayMetrics, dependency: str) -> float | None:
    return metrics.registry.get_sample_value("dreamseed_dependency_state", {"dependency": dependency})


async def test_a_request_waits_for_a_node_as_long_as_is_stated(own_cluster: RunningCluster) -> None:
    """Unless it is told otherwise, a look-up gives a node 20 ms."""
    nodes = [("127.0.0.1", running.node.port) for running in own_cluster.nodes]
    metrics = GatewayMetrics()
    store = AnswerStore(nodes, password=PASSWORD, tls=False, watch=metrics.watch_dependency)
    store.start()
    try:
        await until(lambda: _reaches(store, 3))
        for running in own_cluster.nodes:
            running.pause()
        with pytest.raises(DependencyDown, match="within 20 ms"):
            await store.get("key")
    finally:
        for running in own_cluster.nodes:
            running.resume()
        await store.close()
