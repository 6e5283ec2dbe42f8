"""Services that are not ours: asked how they do for the operator's eyes. The gateway asks for itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import psycopg

from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.services.keeping import NoAnswer, RunStep
from dreamseed_cli.services.postgres_keeper import ping

if TYPE_CHECKING:
    from dreamseed_cli.database.migrate import SchemaState

_SCHEMA_EVERY_S = 5.0
_NODE_S = 0.8


class ExternalPostgres:
    """dsn: gives the connection string, which may hold a password and is kept nowhere else."""

    def __init__(self, dsn: Callable[[], str]) -> None:
        self._dsn = dsn
        self._looking: asyncio.Task[str | None] | None = None
        self._look_at = float("-inf")
        self._obstacle: str | None = "its schema is being looked at"

    async def prepare(self, run: RunStep) -> None:
        """Nothing: it is started elsewhere."""

    async def probe(self) -> str | None:
        """Whether it takes connections, and whether it has this program's schema."""
        if await ping(self._dsn()) is psycopg.pq.Ping.REJECT:
            return "it takes no connections now"
        now = asyncio.get_running_loop().time()
        if self._looking is not None and self._looking.done():
            self._obstacle, self._looking = self._looking.result(), None
        if self._looking is None and now >= self._look_at:
            self._look_at = now + _SCHEMA_EVERY_S
            self._looking = asyncio.create_task(in_daemon_thread(self._look))
            await asyncio.wait({self._looking}, timeout=0.5)
            if self._looking.done():
                self._obstacle, self._looking = self._looking.result(), None
        return self._obstacle

    def _look(self) -> str | None:
        from dreamseed_cli.database.migrate import schema_state

        try:
            return _behind(schema_state(self._dsn()))
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator should read it
            return str(error)


def _behind(schema: SchemaState) -> str | None:
    if schema.up_to_date:
        return None
    has = f"version {schema.current}" if schema.current else "no schema of this program"
    return f"the database has {has}, {schema.newest} is needed: run `dreamseed db migrate`"


class ExternalRedis:
    """A cluster elsewhere, of which some nodes are known."""

    def __init__(self, addresses: ServiceAddresses) -> None:
        self._addresses = addresses

    async def prepare(self, run: RunStep) -> None:
        """Nothing: it is started elsewhere."""

    async def probe(self) -> str | None:
        """Whether any of the known nodes answers, and says that its cluster serves."""
        asked = await asyncio.gather(
            *(self._ask(node) for node in self._addresses.redis_nodes), return_exceptions=True
        )
        answers = [answer for answer in asked if isinstance(answer, str)]
        if not answers:
            raise NoAnswer("; ".join(str(error) for error in asked))
        serves = any("cluster_state:ok" in answer for answer in answers)
        return None if serves else f"its cluster does not serve: {answers[0].split()[0]}"

    async def _ask(self, node: str) -> str:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError, ResponseError

        host, _, port = node.rpartition(":")
        client = Redis(
            host=host.strip("[]"),
            port=int(port),
            password=os.environ.get(self._addresses.redis_password_env or ""),
            ssl=self._addresses.redis_tls,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            async with asyncio.timeout(_NODE_S):
                return str(await cast("Any", client).execute_command("CLUSTER", "INFO"))
        except ResponseError as error:
            return f"{node}: {error}"
        except (RedisError, OSError, TimeoutError) as error:
            raise NoAnswer(str(error) or "no answer in time", place=node) from error
        finally:
            await client.aclose()
