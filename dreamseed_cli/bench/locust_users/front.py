"""HTTP fronts of the run's own (`dreamseed api`), before the gateway that is measured."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.processes import ProcessIdentity, end_all
from dreamseed_cli.gateway.address import is_local_target
from dreamseed_cli.services.ports import free_ports

_START_S = 60.0
_END_S = 15.0
_POLL_S = 0.05
_ASK = aiohttp.ClientTimeout(total=10)


@asynccontextmanager
async def fronts(target: TargetSpec, folder: Path, *, count: int = 1) -> AsyncIterator[tuple[str, ...]]:
    """Base addresses of HTTP fronts to `target`: itself if it speaks HTTP, else `count` of our own on free
    loopback ports, ended whatever happens. folder: for their logs; it must exist.

    Raises MissingError if the target cannot be reached over HTTP, FailedError if a front does not start.
    """
    if target.kind == "openai":
        yield (await _checked(target),)
        return
    processes: list[asyncio.subprocess.Process] = []
    try:
        ports = free_ports(count)
        logs = [folder / f"front-{number}.log" for number in range(count)]
        for port, log in zip(ports, logs, strict=True):
            processes.append(await _start(target, port, log))
        for process, port, log in zip(processes, ports, logs, strict=True):
            await _wait_until_up(process, f"http://127.0.0.1:{port}", log)
        yield tuple(f"http://127.0.0.1:{port}" for port in ports)
    finally:
        await _end(processes)


def front_environment(target: TargetSpec, port: int, given: dict[str, str]) -> dict[str, str]:
    """A front's variables. Of the operator's own only what a process needs, so that no fallback answers and
    no other gateway is asked: the figures would be somebody else's.
    """
    kept = {name: value for name, value in given.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    named = {"GATEWAY_CA_FILE": target.ca_file} if target.ca_file else {}
    seconds = {"GATEWAY_TIMEOUT_S": f"{target.timeout_s:g}"}
    return kept | named | seconds | {"GPU_ENDPOINT": target.address, "PORT": str(port)}


async def _start(target: TargetSpec, port: int, log: Path) -> asyncio.subprocess.Process:
    # Callers show the gateway their own key, so it needs none itself, except beyond loopback.
    arguments = ["-m", "dreamseed_cli", "api", *([] if target.api_key_env else ["--allow-anonymous"])]
    environment = front_environment(target, port, dict(os.environ))
    if target.api_key_env is not None and not is_local_target(target.address):
        environment["GATEWAY_TOKEN"] = os.environ[target.api_key_env]
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


async def _wait_until_up(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_S
    async with aiohttp.ClientSession() as session:
        while not await answers(session, f"{url}/healthz"):
            if process.returncode is not None or loop.time() > deadline:
                raise FailedError(f"the HTTP front did not start: {_last_words(log)}", place=str(log))
            await asyncio.sleep(_POLL_S)


def _last_words(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-400:]


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        async with session.get(url, timeout=_ASK) as reply:
            return reply.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _checked(target: TargetSpec) -> str:
    """The target's address, if something speaks HTTP there."""
    url = target.address.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise MissingError(
            "Locust's users speak HTTP over TCP",
            place=target.address,
            remedy="Give an http:// address, or the gateway's HOST:PORT.",
        )
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"{url}/healthz",
                timeout=aiohttp.ClientTimeout(total=target.connect_timeout_s),
                ssl=ssl.create_default_context(cafile=target.ca_file),
            ),
        ):
            return url
    except (aiohttp.ClientError, TimeoutError) as error:
        raise MissingError(
            f"the HTTP front does not answer: {str(error) or type(error).__name__}",
            place=url,
            remedy="Start it (dreamseed api), or check --target.",
        ) from error


async def _end(processes: list[asyncio.subprocess.Process]) -> None:
    left = [ProcessIdentity.of(process.pid) for process in processes if process.returncode is None]
    await asyncio.to_thread(end_all, [one for one in left if one], grace_s=_END_S)
    for process in processes:
        await process.wait()
