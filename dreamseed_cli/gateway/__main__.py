"""The gateway process: `python -m dreamseed_cli.gateway --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop
from pydantic import ValidationError

from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.core.log import configure_logging
from dreamseed_cli.core.waiting import set_by_signals
from dreamseed_cli.gateway.admin import AdminServer
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.settings import GatewaySettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dreamseed_cli.gateway")
    parser.add_argument("--config", type=Path, required=True, help="GatewaySettings as JSON")
    config_file: Path = parser.parse_args(arguments).config
    configure_logging()
    try:
        uvloop.run(_serve(_load(config_file)))
    except DreamseedError as error:
        structlog.get_logger().error("gateway cannot run", **error.to_data())
        return error.exit_code
    return 0


def _load(config_file: Path) -> GatewaySettings:
    try:
        return GatewaySettings.model_validate_json(config_file.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(config_file)) from error
    except ValidationError as error:
        raise UsageError(f"not valid settings: {error}", place=str(config_file)) from error


async def _serve(settings: GatewaySettings) -> None:
    stopping = asyncio.Event()
    set_by_signals(stopping)
    gateway = GatewayServer(settings)
    admin = AdminServer(gateway, Path(settings.admin_socket), settings.gateway.metrics_port)
    try:
        await gateway.start()
        await admin.start()
        # What is there now stays: looking through it again and again would stall every stream for tens of
        # milliseconds.
        gc.collect()
        gc.freeze()
        # What is young is looked through every thousand calls or so: gRPC leaves five objects of each to the
        # collector, and memory that they took until it comes is never given back.
        gc.set_threshold(5_000, 80, 50)
        await stopping.wait()
        structlog.get_logger().info("gateway drains", timeout_s=gateway.drain_timeout_s)
    finally:
        await gateway.stop()
        await admin.stop()


if __name__ == "__main__":
    sys.exit(main())
