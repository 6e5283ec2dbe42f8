"""The embedded Valkey nodes under their keepers: they become one cluster, and become it again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.cluster
from free_ports import free_ports
from gateway_harness import until

from dreamseed_cli.services import valkey_keeper
from dreamseed_cli.services.keeping import NoAnswer
from dreamseed_cli.services.leftovers import living_in
from dreamseed_cli.services.valkey import NODES, ValkeyNode
from dreamseed_cli.services.valkey_keeper import ValkeyCluster, ValkeyKeeper


class Nodes:
    """Three nodes with their keepers, and their processes."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2 * NODES)
        self.nodes = [ValkeyNode(folder / str(i), ports[i], ports[NODES + i]) for i in range(NODES)]
        self.cluster = ValkeyCluster(self.nodes, folder / "password")
        self.keepers = [ValkeyKeeper(self.cluster, node) for node in self.nodes]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    async def start(self, *indices: int) -> None:
        for index in indices:
            await self.keepers[index].prepare(_no_step)
            self._launch(index)

    def _launch(self, index: int) -> None:
        self.processes[index] = subprocess.Popen(
            self.nodes[index].server(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self, index: int) -> None:
        self.processes[index].kill()
        self.processes[index].wait()

    async def usable(self) -> bool:
        return all([await self._usable(index) for index in range(NODES)])

    async def _usable(self, index: int) -> bool:
        try:
            return await self.keepers[index].probe() is None
        except NoAnswer:
            return False

    def client(self) -> redis.cluster.RedisCluster:
        return redis.cluster.RedisCluster(
            host="127.0.0.1", port=self.nodes[0].port, password=self.cluster.password()
        )

    def sizes(self) -> list[int]:
        sizes = []
        for node in self.nodes:
            client = redis.Redis(port=node.port, password=self.cluster.password())
            sizes.append(int(client.dbsize()))
            client.close()
        return sizes


async def _no_step(argv: tuple[str, ...]) -> None:
    raise AssertionError(argv)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Nodes that nobody has started yet; nothing of them is left running."""
    with tempfile.TemporaryDirectory(prefix="ds vk-") as folder:
        made = Nodes(Path(folder))
        yield made
        for index in made.processes:
            made.kill(index)


async def test_three_new_nodes_become_one_cluster(nodes: Nodes) -> None:
    """Not before all three are there; then keys land on each of them."""
    await nodes.start(0, 1)

    async def waits_for_the_third() -> bool:
        try:
            return nodes.nodes[2].address in (await nodes.keepers[0].probe() or "")
        except NoAnswer:
            return False

    await until(waits_for_the_third)
    await nodes.start(2)
    await until(nodes.usable)
    client = nodes.client()
    for number in range(60):
        client.set(f"key-{number}", number)
    client.close()
    assert sum(nodes.sizes()) == 60
    assert all(nodes.sizes())


async def test_a_killed_node_comes_back_and_the_others_keep_their_keys(nodes: Nodes) -> None:
    """It is empty: a cache forgets. Its cluster was not made anew."""
    await nodes.start(0, 1, 2)
    await until(nodes.usable)
    client = nodes.client()
    for number in range(60):
        client.set(f"key-{number}", number)
    client.close()
    before = nodes.sizes()
    nodes.kill(1)
    await nodes.start(1)
    await until(nodes.usable)
    assert nodes.sizes() == [before[0], 0, before[2]]


async def test_a_node_that_lost_its_memory_has_the_cluster_made_anew(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time does not heal that: after a bounded patience all three are made one again."""
    monkeypatch.setattr(valkey_keeper, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(valkey_keeper, "_SETTLING_S", 5.0)
    await nodes.start(0, 1, 2)
    await until(nodes.usable)
    nodes.kill(2)
    nodes.nodes[2].cluster_file.write_text("damaged")
    nodes.keepers[2]._has_joined = False
    await nodes.start(2)
    await until(nodes.usable)
    client = nodes.client()
    assert client.set("key", "value")
    client.close()


async def test_a_stranger_without_the_password_is_refused(nodes: Nodes) -> None:
    """Loopback has other users, too."""
    await nodes.start(0)
    port = nodes.nodes[0].port
    await until(lambda: _listens(port))
    with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    assert nodes.nodes[0].config_file.stat().st_mode & 0o777 == 0o600


async def test_a_paused_node_gives_no_answer(nodes: Nodes) -> None:
    """Within a bound."""
    await nodes.start(0, 1, 2)
    await until(nodes.usable)
    os.kill(nodes.processes[1].pid, signal.SIGSTOP)
    async with asyncio.timeout(60):
        with pytest.raises(NoAnswer):
            await nodes.keepers[1].probe()


async def test_an_unrecorded_node_is_ended_before_the_next_start(nodes: Nodes) -> None:
    """It would hold the port."""
    await nodes.start(0)
    node = nodes.nodes[0]
    await until(lambda: bool(living_in(node.folder, "valkey-server")))
    old = nodes.processes[0]
    preparing = asyncio.create_task(nodes.keepers[0].prepare(_no_step))
    assert await asyncio.to_thread(old.wait, 60) is not None
    await preparing
    assert not living_in(node.folder, "valkey-server")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
