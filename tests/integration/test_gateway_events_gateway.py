"""The real gateway killed in the middle of its work: what it answered and what it lost are both told."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
from event_harness import PARTITIONS, TOPIC, read_topic, relay, relay_settings
from gateway_harness import emulated_engine, gateway_process, settings, socket_folder, target
from real_services import MockKafka

from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.proto import GENERATE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest
from dreamseed_cli.gateway.settings import GatewaySettings, ServiceAddresses

_ROUNDS = 4
_CALLERS = 4


class _Load:
    """Callers that ask without a pause, and what became of each request."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._stopping = threading.Event()

    @contextmanager
    def on(self, address: str, name: str) -> Iterator[None]:
        self._stopping.clear()
        callers = [
            threading.Thread(target=self._ask, args=(address, f"{name}-{number}"))
            for number in range(_CALLERS)
        ]
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            self._stopping.set()
            for caller in callers:
                caller.join()

    def _ask(self, address: str, name: str) -> None:
        with grpc.insecure_channel(address) as channel:
            generate: Any = channel.unary_unary(GENERATE)
            for number in range(10**6):
                if self._stopping.is_set():
                    return
                request_id = f"{name}-{number}"
                message = GenerateRequest(prompt=request_id, max_tokens=4, request_id=request_id)
                try:
                    generate(message.SerializeToString(), timeout=20)
                except grpc.RpcError:
                    self.failed.append(request_id)
                    return
                self.answered.append(request_id)


def test_a_killed_gateway_loses_no_event(kafka: MockKafka, postgres_dsn: str) -> None:
    """Gateway and relay killed with -9 and a broker down in turns, under load: every answered request is one
    finished event, every other one that was let in is one failed event.
    """
    kafka.create_topic(TOPIC, PARTITIONS)
    migrate(postgres_dsn)
    load = _Load()
    with socket_folder() as folder, emulated_engine(folder, "e0") as engine:
        services = ServiceAddresses(postgres_dsn=postgres_dsn, journal=str(folder / "journal"))
        wanted = settings(folder, target("r0", engine.socket)).model_copy(update={"services": services})
        with relay(folder, relay_settings(postgres_dsn, kafka)) as relaying:
            for number in range(_ROUNDS):
                kafka.set_down(number % 3 + 1)
                _kill_under_load(folder, wanted, load, f"round{number}")
                relaying.restart()
                kafka.set_up(number % 3 + 1)
            with gateway_process(folder, wanted) as gateway:
                # Those that were answered, and those that the last gateway lost, which go first.
                enough = len(load.answered) + 1
                _until(lambda: _published(postgres_dsn) >= enough, gateway.log.read_text)
    _check(load, kafka)


def _kill_under_load(folder: Path, wanted: GatewaySettings, load: _Load, name: str) -> None:
    with gateway_process(folder, wanted) as gateway, load.on(gateway.address, name):
        enough = len(load.answered) + 60
        _until(lambda: len(load.answered) >= enough, gateway.log.read_text)
        gateway.process.kill()
        gateway.process.wait()


def _check(load: _Load, kafka: MockKafka) -> None:
    outcomes: dict[str, set[tuple[str, str, str | None]]] = defaultdict(set)
    for message in read_topic(kafka):
        event = message.payload
        outcomes[event["request_id"]].add((message.event_id, event["outcome"], event["reason"]))
    assert all(len(events) == 1 for events in outcomes.values())
    ends = {request_id: next(iter(events))[1:] for request_id, events in outcomes.items()}
    assert {ends.get(request_id) for request_id in load.answered} == {("finished", None)}
    # A caller that got no answer: the gateway died before it was let in, while it was at it, or just after.
    told = {ends.get(request_id) for request_id in load.failed}
    assert ("failed", "gateway_lost") in told
    assert told <= {None, ("finished", None), ("failed", "gateway_lost")}
    assert ends.keys() <= {*load.answered, *load.failed}


def _published(dsn: str) -> int:
    """How many events are in Kafka; -1 while any waits."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE published_at IS NULL) FROM outbox"
        ).fetchone()
    assert row is not None
    return -1 if row[1] else int(row[0])


def _until(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)
