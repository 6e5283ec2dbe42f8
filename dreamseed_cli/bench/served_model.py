"""Which model an OpenAI-compatible server has."""

from __future__ import annotations

import os
import ssl

import aiohttp

from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.target.key import read_key
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.engine.types import Endpoint

_TIMEOUT = aiohttp.ClientTimeout(total=10)


async def served_model(target: TargetSpec) -> str:
    """The first model it lists. MissingError if nothing listens there, FailedError if it lists none."""
    endpoint = Endpoint.parse(target.address)
    headers = {"authorization": f"Bearer {read_key(target.api_key_env)}"} if target.api_key_env else {}
    connector = aiohttp.UnixConnector(str(endpoint.socket)) if endpoint.socket else None
    trust = ssl.create_default_context(cafile=target.ca_file)
    url = f"{endpoint.url or 'http://engine'}/v1/models"
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, headers=headers, timeout=_TIMEOUT, ssl=trust) as reply,
        ):
            reply.raise_for_status()
            return str((await reply.json())["data"][0]["id"])
    except aiohttp.ClientConnectionError as error:
        raise _unreached(error, target) from error
    except (aiohttp.ClientError, TimeoutError, LookupError, TypeError, ValueError) as error:
        raise FailedError(
            f"it does not say which models it has: {type(error).__name__}: {error}",
            place=url,
            remedy="Name the model with --model.",
        ) from error


def _unreached(error: aiohttp.ClientConnectionError, target: TargetSpec) -> MissingError:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLError):
        return MissingError(
            f"no TLS connection: {getattr(cause, 'verify_message', '') or cause.reason or cause}",
            place=target.address,
            remedy="Name the authority of its certificate with --ca, or write http:// if it has none.",
        )
    return MissingError(
        f"nothing answers there: {_said(cause)}",
        place=target.address,
        remedy="Check the address, or leave --target out to measure a stack of this machine.",
    )


def _said(cause: BaseException) -> str:
    """In the system's words; a name that cannot be resolved has a negative number, and words of its own."""
    number = cause.errno if isinstance(cause, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number).lower()
    return str(getattr(cause, "strerror", None) or cause)
