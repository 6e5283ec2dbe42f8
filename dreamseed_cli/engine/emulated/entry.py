"""The process: arguments, configuration, socket, signals. Exit codes: 0 ended as told, 2 wrong start."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import socket
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web
from pydantic import ValidationError

from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.core.log import configure_logging
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.core.waiting import set_by_signals
from dreamseed_cli.engine.emulated.server import EmulatedServer
from dreamseed_cli.profile.schema import EmulatedEngine

log = structlog.get_logger()

_LAST_LINES = {
    "oom": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 270.00 MiB. GPU 0 has a total "
    "capacity of 31.37 GiB of which 120.69 MiB is free.",
    "config": "ValueError: Total number of attention heads (40) must be divisible by tensor parallel "
    "size (3).",
}
# What aiohttp may take to let handlers end once their streams were cut.
_CLOSE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a Unix socket, or a TCP address."""

    uds: Path | None
    host: str
    port: int

    def __str__(self) -> str:
        return f"unix:{self.uds}" if self.uds else f"{self.host}:{self.port}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one engine until SIGTERM or SIGINT; returns the exit code."""
    options = _parser().parse_args(argv)
    configure_logging()
    try:
        engine = read_engine(options.config)
        address = Address(options.uds, options.host, options.port)
        _check_free(address)
        if options.fail_start:
            return _fail_start(options.fail_start)
        import uvloop

        uvloop.run(serve(engine, address))
    except DreamseedError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    return 0


def read_engine(path: Path) -> EmulatedEngine:
    """The engine's configuration from its JSON file; UsageError naming every mistake."""
    try:
        engine = EmulatedEngine.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path)) from error
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(map(str, mistake['loc'])) or 'file'}: {mistake['msg']}" for mistake in error.errors()
        )
        raise UsageError(mistakes, place=str(path)) from error
    if engine.card.kv_cache_tokens < engine.max_model_len:
        raise UsageError(
            f"the KV cache holds {engine.card.kv_cache_tokens} tokens, less than one sequence of "
            f"max_model_len {engine.max_model_len}",
            place=str(path),
            remedy="Lower max_model_len or raise card.kv_cache_tokens.",
        )
    return engine


async def serve(engine: EmulatedEngine, address: Address) -> None:
    """Load (pretended), listen, and drain when told to stop."""
    stop = asyncio.Event()
    set_by_signals(stop)
    log.info("starting", provenance=Provenance.SIMULATED, model=engine.served_name, card=engine.card.source)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), engine.start_delay_s)
    if not stop.is_set():
        await _serve_until(stop, engine, address)
    log.info("stopped")


async def _serve_until(stop: asyncio.Event, engine: EmulatedEngine, address: Address) -> None:
    server = EmulatedServer(engine)
    # A handler whose client has gone is cancelled: that frees its place in the batch.
    runner = web.AppRunner(
        server.application(), handler_cancellation=True, access_log=None, shutdown_timeout=_CLOSE_TIMEOUT_S
    )
    await runner.setup()
    try:
        await _listen(runner, address)
        # What start-up made stays: collections need not look at it again and pause for less long.
        gc.freeze()
        log.info("ready", address=str(address), provenance=Provenance.SIMULATED)
        while not stop.is_set() or server.deaf:
            stop.clear()
            await stop.wait()
        await _drain(server, engine.shutdown_timeout_s)
    finally:
        await runner.cleanup()
        if address.uds:
            address.uds.unlink(missing_ok=True)


async def _listen(runner: web.AppRunner, address: Address) -> None:
    """Open the socket; UsageError if it is taken."""
    site: web.BaseSite
    # A burst of a thousand connections must fit the kernel's queue of unaccepted ones.
    if address.uds:
        site = web.UnixSite(runner, str(address.uds), backlog=4096)
    else:
        site = web.TCPSite(runner, address.host, address.port, backlog=4096)
    try:
        await site.start()
    except OSError as error:
        raise UsageError(f"cannot listen: {error.strerror or error}", place=str(address)) from error


async def _drain(server: EmulatedServer, timeout_s: float) -> None:
    """Take nothing new in and let the running requests end, up to `timeout_s`; cut the rest."""
    log.info("draining", timeout_s=timeout_s)
    server.draining = True
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.stepper.wait_idle(), timeout_s)
    server.stepper.cancel_all()


def _check_free(address: Address) -> None:
    """UsageError if something answers on the Unix socket; a dead engine's socket is removed."""
    path = address.uds
    if path is None or not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise UsageError("exists and is no socket", place=str(path), remedy="Choose another path.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise UsageError(f"cannot be probed: {error}", place=str(path)) from error
    raise UsageError(
        "the socket is in use", place=str(path), remedy="Stop what listens there, or choose another path."
    )


def _fail_start(how: str) -> int:
    """Fail as vLLM fails, for rehearsals of a start that does not succeed."""
    sys.stderr.write(f"(simulated failure of the emulated engine)\n{_LAST_LINES[how]}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dreamseed_cli.engine.emulated", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="an EmulatedEngine as JSON")
    parser.add_argument("--uds", type=Path, help="listen on this Unix socket")
    parser.add_argument("--host", default="127.0.0.1", help="listen on TCP (without --uds)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fail-start", choices=tuple(_LAST_LINES), help="fail as vLLM would, status 1")
    return parser
