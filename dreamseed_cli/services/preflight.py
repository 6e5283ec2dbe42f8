"""Whether the configured services can be had here, asked before anything is started."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from dreamseed_cli.core.errors import DreamseedError, MissingError, UsageError
from dreamseed_cli.core.extras import how_to_install
from dreamseed_cli.profile.schema import Services
from dreamseed_cli.services import postgres, valkey
from dreamseed_cli.services.root import unprivileged

_TIMEOUT_S = 20.0


def service_needs(services: Services, socket_dir: Path) -> Iterator[DreamseedError]:
    """What is missing or wrong, one error each. socket_dir: the folder of PostgreSQL's socket."""
    yield from _postgres_needs(services, socket_dir)
    yield from _redis_needs(services)
    yield from _kafka_needs(services)


def _postgres_needs(services: Services, socket_dir: Path) -> Iterator[DreamseedError]:
    if services.postgres.mode != "embedded":
        return
    if "," in str(socket_dir):
        yield UsageError(
            "PostgreSQL's clients take a comma in a socket's path for a second host",
            place=str(socket_dir),
            remedy="Choose another folder with --state-dir or DREAMSEED_STATE_DIR.",
        )
    try:
        _run_once(postgres.program("postgres"))
    except DreamseedError as error:
        yield error


def _run_once(program: Path) -> None:
    """MissingError unless the program runs, in the way that the server will."""
    try:
        done = subprocess.run(
            unprivileged((str(program), "--version")),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        said, failed = done.stderr.strip(), done.returncode != 0
    except OSError as error:
        said, failed = f"{error.strerror}: {error.filename}", True
    except subprocess.TimeoutExpired:
        said, failed = f"no end after {_TIMEOUT_S:.0f} s", True
    if failed:
        raise MissingError(_cause(said), place="services.postgres", remedy=_remedy())


def _cause(said: str) -> str:
    if os.geteuid() == 0:
        return (
            "PostgreSQL does not run as root, and here it cannot be run as nobody in a user namespace: "
            f"{said or 'unshare(1) failed'}"
        )
    return f"the embedded PostgreSQL does not run here: {said}"


def _remedy() -> str:
    others = "set services.postgres.mode to 'external' or 'off'"
    if os.geteuid() == 0:
        return f"Run dreamseed as an ordinary user, allow user namespaces, or {others}."
    anew = "Its package may be damaged: install it anew (in a checkout, remove .venv first)."
    return f"{anew} {how_to_install('embedded')} Or {others}."


def _redis_needs(services: Services) -> Iterator[DreamseedError]:
    if services.redis.mode == "external" and services.redis.password_env:
        yield from _variable("services.redis.password_env", services.redis.password_env, "the password")
    if services.redis.mode == "embedded":
        try:
            valkey.program("valkey-server")
        except MissingError as error:
            yield error


def _kafka_needs(services: Services) -> Iterator[DreamseedError]:
    kafka = services.kafka
    if kafka.mode != "external":
        return
    if services.postgres.mode == "off":
        yield UsageError(
            "events reach Kafka through the outbox in PostgreSQL, which is off",
            place="services.kafka.mode",
            remedy="Set services.postgres.mode to 'embedded' or 'external', or services.kafka.mode to 'off'.",
        )
    for name, variable in (("username_env", kafka.username_env), ("password_env", kafka.password_env)):
        if variable:
            yield from _variable(f"services.kafka.{name}", variable, "it")


def _variable(place: str, variable: str, what: str) -> Iterator[DreamseedError]:
    if not os.environ.get(variable):
        yield MissingError(
            f"the environment variable {variable} is not set",
            place=place,
            remedy=f"Set it to {what} before starting.",
        )
