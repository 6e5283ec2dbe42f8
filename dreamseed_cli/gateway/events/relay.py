"""The relay process: `python -m dreamseed_cli.gateway.events.relay --config FILE`. Outbox in, Kafka out.

At least once, in order for each user: an event is marked published only after the brokers acknowledged it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog
import uvloop
from pydantic import ValidationError

from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.core.log import configure_logging
from dreamseed_cli.core.waiting import set_by_signals, set_within
from dreamseed_cli.database.address import resolve_dsn
from dreamseed_cli.gateway.events.backoff import Backoff
from dreamseed_cli.gateway.events.connection import PostgresAway
from dreamseed_cli.gateway.events.outbox import Outbox
from dreamseed_cli.gateway.events.retention import PRUNE_EVERY_S
from dreamseed_cli.gateway.events.sender import KafkaAway, Sender
from dreamseed_cli.gateway.events.settings import RelaySettings

_BATCH = 1000
_IDLE_S = 0.2
_OTHER_RELAY_S = 1.0
_LAST_WAIT_S = 5.0

_log = structlog.get_logger(__name__)


class Relay:
    """Publishes until `stopping` is set, over every failure of PostgreSQL and of the brokers."""

    def __init__(self, outbox: Outbox, sender: Sender, stopping: asyncio.Event) -> None:
        self._outbox = outbox
        self._sender = sender
        self._stopping = stopping
        self._backoff = Backoff("the outbox's way to Kafka")
        self._marks: list[int] = []
        self._leads = True
        self._prune_at = time.monotonic()

    async def run(self) -> None:
        """Return after `stopping`; what the brokers have by then is marked, if PostgreSQL answers."""
        while not self._stopping.is_set():
            try:
                pause_s = await self._round()
                self._backoff.went_well()
            except (PostgresAway, KafkaAway) as error:
                pause_s = self._backoff.failed(error)
            await self._wait(pause_s)
        with suppress(PostgresAway, KafkaAway):
            await self._mark()

    async def _round(self) -> float:
        """One batch; how long to wait before the next one, in seconds."""
        if not await self._lead():
            return _OTHER_RELAY_S
        # After a failure: nothing may be sent twice at a time, and what was acknowledged is not sent again.
        if not await self._settle():
            return 0.0
        await self._mark()
        rows = await self._outbox.waiting(_BATCH)
        self._sender.send(rows)
        try:
            await self._settle()
        finally:
            self._marks += self._sender.take_acknowledged()
        await self._mark()
        if time.monotonic() >= self._prune_at and not await self._outbox.prune():
            self._prune_at = time.monotonic() + PRUNE_EVERY_S
        return 0.0 if len(rows) == _BATCH else _IDLE_S

    async def _lead(self) -> bool:
        leads = await self._outbox.take()
        if leads != self._leads:
            _log.info("relay leads" if leads else "another relay leads: this one waits")
        self._leads = leads
        return leads

    async def _settle(self) -> bool:
        """Wait for the brokers, however long they are away; False if they still are some seconds after
        `stopping`.
        """
        stop_at: float | None = None
        while not await self._sender.settle():
            if self._stopping.is_set():
                stop_at = stop_at or time.monotonic() + _LAST_WAIT_S
                if time.monotonic() > stop_at:
                    return False
        return True

    async def _mark(self) -> None:
        self._marks += self._sender.take_acknowledged()
        if self._marks:
            await self._outbox.mark(self._marks)
            self._marks = []

    async def _wait(self, seconds: float) -> None:
        await set_within(self._stopping, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Relay until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dreamseed_cli.gateway.events.relay")
    parser.add_argument("--config", type=Path, required=True, help="RelaySettings as JSON")
    config_file: Path = parser.parse_args(arguments).config
    configure_logging()
    try:
        uvloop.run(_relay(_load(config_file)))
    except DreamseedError as error:
        _log.error("relay cannot run", **error.to_data())
        return error.exit_code
    return 0


def _load(config_file: Path) -> RelaySettings:
    try:
        settings = RelaySettings.model_validate_json(config_file.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(config_file)) from error
    except ValidationError as error:
        raise UsageError(f"not valid settings: {error}", place=str(config_file)) from error
    if settings.kafka.mode != "external":
        raise UsageError(f"services.kafka.mode is '{settings.kafka.mode}'", place=str(config_file))
    return settings


async def _relay(settings: RelaySettings) -> None:
    dsn = resolve_dsn(settings.postgres_dsn, settings.postgres_dsn_env)
    if dsn is None:
        raise UsageError("there is no PostgreSQL to relay from", place="services.postgres")
    stopping = asyncio.Event()
    set_by_signals(stopping)
    outbox, sender = Outbox(dsn), Sender(settings.kafka)
    _log.info("relay runs", brokers=settings.kafka.brokers, topic=settings.kafka.topic)
    try:
        await Relay(outbox, sender, stopping).run()
    finally:
        sender.close()
        await outbox.close()


if __name__ == "__main__":
    sys.exit(main())
