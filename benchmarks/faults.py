"""The fault run: Redis, PostgreSQL, Kafka and the relay killed, paused and restarted under load.

`dreamseed serve` with emulated engines (times simulated), its own PostgreSQL and Valkey cluster, and
librdkafka's mock cluster as the three brokers, in a process of its own. Callers ask without a pause while one
fault after another happens. Counted: generations that failed, events that never reached Kafka. Measured: how
long each service took to be of use again, from the moment of the fault.
Run it from the repository root: `python benchmarks/faults.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psycopg
import redis
from confluent_kafka import Consumer
from prometheus_client.parser import text_string_to_metric_families

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.client import GatewayClient
from dreamseed_cli.gateway.settings import GatewaySettings, ServiceAddresses
from dreamseed_cli.supervisor.running import gateway_address
from dreamseed_cli.supervisor.state import read_children

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "faults.json"
TOPIC = "dreamseed.requests"
BOUND_S = 90.0
PROFILE = """
name = "faults"
description = "two emulated engines, everything else real"
[engine]
kind = "emulated"
served_name = "emulated"
replicas = 2
[engine.card]
source = "benchmark: short answers"
prefill_tokens_per_s = 1e6
decode_step_ms = 2.0
decode_step_ms_per_seq = 0.0
kv_cache_tokens = 500000
[gateway]
port = 0
[services.kafka]
mode = "external"
brokers = {brokers}
topic = "{topic}"
"""


@dataclass
class Count:
    """What the callers saw."""

    answered: int = 0
    cache_hits: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


@dataclass(frozen=True)
class Fault:
    """What happens to a service; `undo` ends it after `lasts_s` (None: the stack mends it itself)."""

    name: str
    do: Callable[[], None]
    lasts_s: float = 0.0
    undo: Callable[[], None] | None = None
    ended: Callable[[], bool] = lambda: True
    """Whether the process that was to end has ended: until then it may look recovered."""
    recovered: Callable[[], Awaitable[bool]] | None = None


class Brokers:
    """Three mock brokers in a process of their own, so that they can be paused as a whole."""

    def __init__(self) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(ROOT / 'tests' / 'support')!r})\n"
            "from real_services import MockKafka\n"
            f"kafka = MockKafka(); kafka.create_topic({TOPIC!r}); print(kafka.brokers, flush=True)\n"
            "for line in sys.stdin:\n"
            "    verb, broker = line.split()\n"
            "    (kafka.set_down if verb == 'down' else kafka.set_up)(int(broker))\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.addresses = self._process.stdout.readline().strip()

    def order(self, verb: str, *brokers: int) -> None:
        """`down` or `up`."""
        assert self._process.stdin is not None
        for broker in brokers:
            self._process.stdin.write(f"{verb} {broker}\n")
        self._process.stdin.flush()

    def signal(self, signum: signal.Signals) -> None:
        self._process.send_signal(signum)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Events:
    """Everything that reaches Kafka, read in a thread of its own."""

    def __init__(self, brokers: str) -> None:
        self.seen: dict[str, int] = {}
        """How often each event came, by its request's id."""
        self.newest = 0.0
        self._stop = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "faults",
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        self._consumer.subscribe([TOPIC])
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.2)
            value = message.value() if message is not None and message.error() is None else None
            if value is None:
                continue
            event = msgspec.json.decode(value)
            self.seen[event["request_id"]] = self.seen.get(event["request_id"], 0) + 1
            self.newest = max(self.newest, event["arrived_at"] + event["duration_s"])


class Run:
    """One stack under load, and the faults it goes through."""

    def __init__(self, state: StateDir, brokers: Brokers) -> None:
        self.state = state
        self.brokers = brokers
        self.count = Count()
        self.asked: list[str] = []
        self.events = Events(brokers.addresses)
        self.services = self._services()
        self._stop = asyncio.Event()

    async def go(self, callers: int, rest_s: float) -> list[dict[str, Any]]:
        """Every fault once, `rest_s` seconds apart, under load from `callers` callers."""
        load = [asyncio.create_task(self._call(number)) for number in range(callers)]
        await asyncio.sleep(rest_s)
        found = [await self._suffer(fault, rest_s) for fault in self._faults()]
        self._stop.set()
        await asyncio.gather(*load)
        return found

    async def lost_events(self) -> list[str]:
        """Requests whose event did not come to Kafka within the bound."""
        await _until(lambda: _now(all(name in self.events.seen for name in self.asked)))
        return [name for name in self.asked if name not in self.events.seen]

    async def _suffer(self, fault: Fault, rest_s: float) -> dict[str, Any]:
        failed_before = len(self.count.failures)
        start = time.monotonic()
        fault.do()
        if fault.undo is not None:
            await asyncio.sleep(fault.lasts_s)
            fault.undo()
        await _until(lambda: _now(fault.ended()))
        recovered = await _until(fault.recovered) if fault.recovered else True
        took_s = time.monotonic() - start
        await asyncio.sleep(rest_s)
        failed = len(self.count.failures) - failed_before
        print(
            f"{fault.name:40} of use again after {took_s:5.1f} s (fault lasted {fault.lasts_s:.0f} s), "
            f"{failed} failed generations{'' if recovered else '  NOT RECOVERED'}",
            flush=True,
        )
        return {
            "fault": fault.name,
            "lasted_s": fault.lasts_s,
            "of_use_again_s": round(took_s, 2) if recovered else None,
            "failed_generations": failed,
        }

    def _faults(self) -> Iterator[Fault]:
        for name, recovered in (
            ("valkey-1", self._redis_works),
            ("postgres", self._postgres_works),
            ("relay", self._kafka_works),
        ):
            orderly = signal.SIGINT if name == "postgres" else signal.SIGTERM
            for what, signum in (("killed (-9)", signal.SIGKILL), ("restarted", orderly)):
                ended = self._ended(name)
                yield Fault(f"{name} {what}", self._signal(name, signum), ended=ended, recovered=recovered)
            yield Fault(
                f"{name} paused (SIGSTOP)",
                self._signal(name, signal.SIGSTOP),
                lasts_s=4,
                undo=self._signal(name, signal.SIGCONT),
                recovered=recovered,
            )
        order, send = self.brokers.order, self.brokers.signal
        works = self._kafka_works
        for name, which in (("one broker", (1,)), ("all brokers", (1, 2, 3))):
            yield Fault(
                f"{name} down",
                partial(order, "down", *which),
                lasts_s=5,
                undo=partial(order, "up", *which),
                recovered=works,
            )
        yield Fault(
            "all brokers paused (SIGSTOP)",
            partial(send, signal.SIGSTOP),
            lasts_s=5,
            undo=partial(send, signal.SIGCONT),
            recovered=works,
        )

    def _ended(self, name: str) -> Callable[[], bool]:
        leaders = [child.leader for child in read_children(self.state) if child.name == name]
        return lambda: not any(leader.alive() for leader in leaders)

    def _signal(self, name: str, signum: signal.Signals) -> Callable[[], None]:
        def send() -> None:
            for child in read_children(self.state):
                if child.name == name:
                    family = child.members if signum in {signal.SIGSTOP, signal.SIGCONT} else (child.leader,)
                    for member in family:
                        with suppress(ProcessLookupError):
                            os.kill(member.pid, signum)

        return send

    async def _call(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - a load, no secret
        async with GatewayClient(gateway_address(self.state)) as client:
            while not self._stop.is_set():
                await self._ask(client, number, chance)

    async def _ask(self, client: GatewayClient, number: int, chance: random.Random) -> None:
        name = f"f{number}-{len(self.asked)}"
        self.asked.append(name)
        topic = chance.randrange(200) if chance.random() < 0.5 else f"{name} alone"
        fields: dict[str, Any] = {"max_tokens": 16, "user_id": f"user-{number}", "request_id": name}
        start = time.monotonic()
        try:
            if chance.random() < 0.5:
                stream = client.ask(f"About {topic}", **fields)
                async for _ in stream:
                    pass
                answer = stream.answer
            else:
                answer = await client.generate(f"About {topic}", **fields)
        except DreamseedError as error:
            self.count.failures.append(f"{name}: {error}")
            return
        self.count.answered += 1
        self.count.cache_hits += answer.replica == "cache"
        self.count.slowest_s = max(self.count.slowest_s, time.monotonic() - start)

    def _services(self) -> ServiceAddresses:
        found = GatewaySettings.model_validate_json((self.state.root / "gateway.json").read_bytes()).services
        assert found is not None
        return found

    async def _redis_works(self) -> bool:
        """The node that suffered takes one of its own keys."""

        def try_it() -> bool:
            assert self.services.redis_password_file is not None
            host, port = self.services.redis_nodes[1].split(":")
            password = Path(self.services.redis_password_file).read_text().strip()
            with redis.Redis(host=host, port=int(port), password=password, socket_timeout=1) as client:
                for number in range(50):
                    try:
                        return bool(client.set(f"fault-{number}", "x", ex=60))
                    except redis.ResponseError as error:
                        if not str(error).startswith("MOVED"):
                            return False
                    except (redis.RedisError, OSError):
                        return False
            return False

        return await asyncio.to_thread(try_it)

    async def _postgres_works(self) -> bool:
        """The server answers, and the gateway's journal has nothing left that it does not have."""

        def try_it() -> bool:
            with suppress(psycopg.Error):
                psycopg.connect(self.services.postgres_dsn or "", connect_timeout=1).close()
                return True
            return False

        return await asyncio.to_thread(try_it) and await self._journal_bytes() < 64 * 1024

    async def _kafka_works(self) -> bool:
        """An event of the last second has come through."""
        await asyncio.sleep(0.05)
        return self.events.newest > time.time() - 1.0

    async def _journal_bytes(self) -> float:
        socket = str(self.state.socket("gateway-admin"))
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as session,
            session.get("http://gateway/metrics") as reply,
        ):
            for family in text_string_to_metric_families(await reply.text()):
                if family.name == "dreamseed_journal_bytes":
                    return float(family.samples[0].value)
        return float("inf")


async def _now(value: bool) -> bool:
    return value


async def _until(condition: Callable[[], Awaitable[bool]]) -> bool:
    deadline = time.monotonic() + BOUND_S
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


@contextmanager
def serving(folder: Path, brokers: Brokers, callers: int) -> Iterator[StateDir]:
    """A running `dreamseed serve` with everything ready, and a paying user for every caller."""
    profile = folder / "faults.toml"
    profile.write_text(PROFILE.format(brokers=json.dumps(brokers.addresses.split(",")), topic=TOPIC))
    state = StateDir(folder / "s")
    arguments = ["serve", "--profile", str(profile), "--state-dir", str(state.root)]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dreamseed_cli", *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + BOUND_S
        while not _all_ready(state):
            assert process.poll() is None, (folder / "serve.log").read_text()
            assert time.monotonic() < deadline, (folder / "serve.log").read_text()
            time.sleep(0.5)
        for number in range(callers):
            _dreamseed(state, "user", "add", f"user-{number}", "--tier", "paid")
        yield state
    finally:
        process.terminate()
        process.wait(60)


def _all_ready(state: StateDir) -> bool:
    done = _dreamseed(state, "status", "--json")
    if done.returncode != 0:
        return False
    data = json.loads(done.stdout)["data"]
    return all(part["state"] == "ready" for part in (*data["replicas"], *data["services"]))


def _dreamseed(state: StateDir, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "dreamseed_cli", *arguments, "--state-dir", str(state.root)]
    return subprocess.run(argv, capture_output=True, check=False)


def main() -> int:
    """Run, print, write the result; 1 if a generation failed or an event was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--rest", type=float, default=3.0, help="seconds between two faults")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    brokers = Brokers()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="ds-f-") as folder,
            serving(Path(folder), brokers, options.callers) as state,
        ):
            run = Run(state, brokers)
            try:
                faults = asyncio.run(run.go(options.callers, options.rest))
                lost = asyncio.run(run.lost_events())
            finally:
                run.events.close()
    finally:
        brokers.signal(signal.SIGCONT)
        brokers.close()
    duplicates = sum(times - 1 for times in run.events.seen.values())
    result = {
        "benchmark": "faults",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "engines": "simulated",
        "recovery": "measured",
        "callers": options.callers,
        "faults": faults,
        "requests": len(run.asked),
        **asdict(run.count),
        "events_lost": len(lost),
        "events_delivered_twice": duplicates,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    failed = len(run.count.failures)
    print(
        f"{len(run.asked)} requests, {run.count.answered} answered ({run.count.cache_hits} from the cache), "
        f"{failed} failed, slowest {run.count.slowest_s:.2f} s; "
        f"{len(lost)} events lost, {duplicates} came twice"
    )
    for line in run.count.failures[:10]:
        print(line)
    return 1 if failed or lost else 0


if __name__ == "__main__":
    sys.exit(main())
