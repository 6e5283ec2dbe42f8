"""The servers that tests talk to: a real PostgreSQL, a real Valkey cluster, librdkafka's mock brokers."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import confluent_kafka
import psycopg
import redis
from free_ports import free_ports

from dreamseed_cli.services.postgres import EmbeddedPostgres
from dreamseed_cli.services.valkey import NODES, NodeView, ValkeyNode, formation

_BOUND_S = 90.0
PASSWORD = "a-test-password"
# A killed server loses nothing by it: what it wrote is with the kernel. A disk that is busy with other tests
# would hold up every commit, and a shutdown for half a minute.
_UNSYNCED = ("-c", "fsync=off")


@dataclass
class RunningPostgres:
    """A PostgreSQL server. Its folder outlives stop() and kill(). durable: it waits for the disk."""

    server: EmbeddedPostgres
    log: Path
    durable: bool = False
    process: subprocess.Popen[bytes] | None = None
    _names: Iterator[int] = field(default_factory=itertools.count)

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        _wait(self._starts, self.log.read_text)

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP to the server and all its backends."""
        _signal_family(self.process, signal.SIGSTOP)

    def resume(self) -> None:
        _signal_family(self.process, signal.SIGCONT)

    def stop(self) -> None:
        """A fast shutdown."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)  # it writes a checkpoint, to a disk that may be busy
            except subprocess.TimeoutExpired:
                self.kill()

    def new_database(self) -> str:
        """A fresh, empty database; its connection string."""
        name = f"test_{next(self._names)}"
        with psycopg.connect(self.server.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.server.dsn(name)

    def _starts(self) -> bool:
        # The backends of a killed server outlive it for a moment, and a new one ends at once when it finds
        # their shared memory.
        if self.process is None or self.process.poll() is not None:
            with self.log.open("ab") as output:
                argv = [*self.server.server(), *(() if self.durable else _UNSYNCED)]
                self.process = subprocess.Popen(argv, stdout=output, stderr=output)
        return self._answers()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.server.dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres(folder: Path, *, durable: bool = False) -> Iterator[RunningPostgres]:
    """A running server below `folder`, whose path must be short (Unix socket)."""
    server = EmbeddedPostgres(data=folder / "pg", socket_dir=folder)
    subprocess.run([*server.initdb(), "--no-sync"], check=True, capture_output=True)
    running = RunningPostgres(server, folder / "postgres.log", durable)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@dataclass
class RunningNode:
    """One Valkey node."""

    node: ValkeyNode
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.node.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(self.node.server(), stdout=output, stderr=output)
        _wait(self._answers, (self.node.folder / "log").read_text)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        client = redis.Redis(port=self.node.port, password=PASSWORD, socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()


@dataclass
class RunningCluster:
    """Three Valkey nodes that are one cluster."""

    nodes: list[RunningNode]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(running.node.address for running in self.nodes)

    def form(self) -> None:
        """Make the nodes one cluster, and wait until each of them says that it is."""
        for node, command in formation([running.node for running in self.nodes]):
            _command(node, *command)
        for running in self.nodes:
            _wait(partial(_is_whole, running.node), lambda: "the nodes do not become one cluster")

    def flush(self) -> None:
        """Forget every key."""
        for running in self.nodes:
            client = redis.Redis(port=running.node.port, password=PASSWORD)
            client.flushall()
            client.close()


@contextmanager
def own_postgres(*, durable: bool = False) -> Iterator[RunningPostgres]:
    """A running server in a folder of its own, for a module that breaks, measures or copies it."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-pg-") as folder,
        postgres(Path(folder), durable=durable) as server,
    ):
        yield server


@contextmanager
def valkey_cluster(folder: Path) -> Iterator[RunningCluster]:
    """A running cluster of three nodes on free loopback ports, with password `PASSWORD`."""
    ports = free_ports(2 * NODES)
    cluster = RunningCluster([])
    with ExitStack() as stack:
        for index in range(NODES):
            node = ValkeyNode(folder / f"valkey-{index}", ports[index], ports[NODES + index])
            node.folder.mkdir()
            node.config_file.write_text(node.config(PASSWORD))
            running = RunningNode(node)
            cluster.nodes.append(running)
            running.start()
            stack.callback(_end, running)
        cluster.form()
        yield cluster


class MockKafka:
    """librdkafka's own mock cluster: three brokers in memory, in this process. Topics create themselves."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_librdkafka())
        self._declare()
        error = ctypes.create_string_buffer(512)
        self._client = self._library.rd_kafka_new(0, self._library.rd_kafka_conf_new(), error, 512)
        assert self._client, error.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 3)
        self.brokers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def create_topic(self, topic: str, partitions: int = 3) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 3) == 0

    def set_down(self, broker: int) -> None:
        """Broker 1, 2 or 3 stops answering."""
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, broker) == 0

    def set_up(self, broker: int) -> None:
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, broker) == 0

    def move_leader(self, topic: str, partition: int, broker: int) -> None:
        """Make `broker` the leader, as a real cluster would elect one."""
        moved = self._library.rd_kafka_mock_partition_set_leader(
            self._cluster, topic.encode(), partition, broker
        )
        assert moved == 0

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def _declare(self) -> None:
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        for name, result, arguments in (
            ("rd_kafka_conf_new", pointer, []),
            ("rd_kafka_new", pointer, [ctypes.c_int, pointer, text, ctypes.c_size_t]),
            ("rd_kafka_destroy", None, [pointer]),
            ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
            ("rd_kafka_mock_cluster_destroy", None, [pointer]),
            ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
            ("rd_kafka_mock_topic_create", ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
            ("rd_kafka_mock_broker_set_down", ctypes.c_int, [pointer, ctypes.c_int32]),
            ("rd_kafka_mock_broker_set_up", ctypes.c_int, [pointer, ctypes.c_int32]),
            (
                "rd_kafka_mock_partition_set_leader",
                ctypes.c_int,
                [pointer, text, ctypes.c_int32, ctypes.c_int32],
            ),
        ):
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments


def _command(node: ValkeyNode, *command: str) -> Any:
    client = redis.Redis(port=node.port, password=PASSWORD, decode_responses=True)
    try:
        return cast("Any", client).execute_command(*command)
    finally:
        client.close()


def _is_whole(node: ValkeyNode) -> bool:
    return NodeView.parse(_command(node, "CLUSTER", "INFO")).whole


def _librdkafka() -> str:
    libraries = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    return str(next(libraries.glob("librdkafka*.so*")))


def _end(running: RunningNode) -> None:
    if running.process is not None and running.process.poll() is None:
        running.resume()
        running.process.terminate()
        running.process.wait(60)


def _signal_family(process: subprocess.Popen[bytes] | None, signum: signal.Signals) -> None:
    assert process is not None
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in (process.pid, *map(int, children)):
        with suppress(ProcessLookupError):  # the resumed server collects backends whose client has gone
            os.kill(pid, signum)


def _wait(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + _BOUND_S
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)
