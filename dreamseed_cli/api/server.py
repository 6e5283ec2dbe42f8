"""The front as a process: its socket, uvicorn, its end."""

from __future__ import annotations

import signal
import socket
from contextlib import closing
from types import FrameType

import structlog
import uvicorn
import uvloop

from dreamseed_cli.api.connection import Connection, bound_writes
from dreamseed_cli.api.front import Front
from dreamseed_cli.api.settings import ApiSettings
from dreamseed_cli.core.errors import FailedError

_log = structlog.get_logger(__name__)
_KEEP_IDLE_S = 75  # longer than the 60 s of usual load balancers: the server never closes first


def run(settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT, drain, give unspent money back, and return; after SIGINT raise
    KeyboardInterrupt.

    Raises FailedError if the port cannot be had, and what the settings' files give cause to.
    """
    ending = _Ending()
    # uvicorn raises the signal that ended it once more when it is done: too early for what follows.
    before = {signum: signal.signal(signum, ending.note) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        with closing(_listen(settings)) as listener:
            uvloop.run(_serve(settings, listener, ending))
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if signal.SIGINT in ending.signals:
        raise KeyboardInterrupt


class _Ending:
    """The signals that came while uvicorn did not listen for them."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.server: uvicorn.Server | None = None

    def note(self, signum: int, frame: FrameType | None) -> None:
        self.signals.append(signum)
        if self.server is not None:
            self.server.should_exit = True


def build_server(front: Front, settings: ApiSettings) -> uvicorn.Server:
    """uvicorn with this front, for a socket that listens already."""
    return uvicorn.Server(
        uvicorn.Config(
            front,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_IDLE_S,
            timeout_graceful_shutdown=max(1, int(settings.drain_timeout_s)),
        )
    )


async def _serve(settings: ApiSettings, listener: socket.socket, ending: _Ending) -> None:
    front = Front(settings)
    ending.server = build_server(front, settings)
    host, port = listener.getsockname()[:2]
    _log.info("api listens", host=host, port=port, gateway=settings.gpu_endpoint)
    try:
        if not ending.signals:
            await ending.server.serve([listener])
    finally:
        await front.close()
        _log.info("api ended")


def _listen(settings: ApiSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=4096)
    except OSError as error:
        raise FailedError(
            f"cannot listen: {error.strerror or error}",
            place=f"{settings.host}:{settings.port}",
            remedy="End what listens there, or choose another port with --port or PORT.",
        ) from error
    bound_writes(listener)
    return listener
