"""The exporter: `GET /metrics` on loopback, asked anew for every scrape."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from dreamseed_cli.backup.home import backup_home
from dreamseed_cli.backup.settings import textfile_in
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.waiting import set_by_signals
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.gateway.security.expiry import Entry, survey, survey_served
from dreamseed_cli.gateway.security.folder import CertificateFolder
from dreamseed_cli.monitoring.box import certificate_metrics, disk_metrics, drill_metrics, left_metrics
from dreamseed_cli.monitoring.cards import stack_metrics
from dreamseed_cli.monitoring.collect import Collector, Exposition
from dreamseed_cli.monitoring.money import fallback_metrics
from dreamseed_cli.supervisor.control import fetch_snapshot
from dreamseed_cli.supervisor.gateway_admin import GatewayAdmin
from dreamseed_cli.supervisor.running import gateway_settings
from dreamseed_cli.ups.journal import UpsFolder

HOST = "127.0.0.1"


def collectors(state: StateDir, certificates: CertificateFolder) -> dict[str, Collector]:
    """All parts of this box that can be asked."""

    async def gateway() -> bytes:
        admin = GatewayAdmin(state.socket("gateway-admin"))
        try:
            return await admin.metrics()
        finally:
            await admin.close()

    async def stack() -> bytes:
        return stack_metrics(await asyncio.to_thread(fetch_snapshot, state))

    async def backups() -> bytes:
        return await asyncio.to_thread(left_metrics, textfile_in(backup_home(os.environ)))

    async def ups() -> bytes:
        return await asyncio.to_thread(left_metrics, UpsFolder.of(state).textfile)

    async def drills() -> bytes:
        history = await asyncio.to_thread(Folder.of(state).read)
        return drill_metrics(history.records)

    async def disk() -> bytes:
        return await asyncio.to_thread(disk_metrics, state.root)

    async def expiry() -> bytes:
        return certificate_metrics(await asyncio.to_thread(_all_certificates, state, certificates))

    async def fallback() -> bytes:
        return await asyncio.to_thread(fallback_metrics, state)

    return {
        "gateway": gateway,
        "stack": stack,
        "backups": backups,
        "ups": ups,
        "drills": drills,
        "disk": disk,
        "certificates": expiry,
        "fallback": fallback,
    }


def _all_certificates(state: StateDir, folder: CertificateFolder) -> list[Entry]:
    """Those that the gateway was last told to serve with, wherever they lie; then the user's others."""
    now, settings = datetime.now(UTC), gateway_settings(state)
    tls = settings.gateway.security.tls if settings is not None else None
    served = survey_served(tls, now) if tls is not None else []
    known = {one.file for one in served}
    return [*served, *(one for one in survey(folder, now) if one.file not in known)]


async def serve(parts: dict[str, Collector], port: int) -> signal.Signals:
    """Until SIGTERM or Ctrl-C, whichever it was. UsageError if the port is taken."""
    exposition = Exposition(parts)

    async def tell(_: web.Request) -> web.Response:
        return web.Response(body=await exposition.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/metrics", tell)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    ended = asyncio.Event()
    came = set_by_signals(ended)
    try:
        await web.TCPSite(runner, HOST, port).start()
        await ended.wait()
        return came[0]
    except OSError as error:
        raise UsageError(
            f"metrics cannot be offered there: {error.strerror}",
            place=f"{HOST}:{port}",
            remedy="Choose another port with --listen.",
        ) from error
    finally:
        await runner.cleanup()
