"""Which gRPC status a failure is, and what the caller is told. Pure."""

from __future__ import annotations

from grpc import StatusCode

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import EngineBusy, EngineRefused, EngineTimeout
from dreamseed_cli.gateway.validation import InvalidArgument


def grpc_status(error: DreamseedError) -> tuple[StatusCode, str]:
    """Code and message: the cause and the remedy; never an engine's address, which is ours alone."""
    return _code(error), f"{error.cause}. {error.remedy}" if error.remedy else error.cause


def _code(error: DreamseedError) -> StatusCode:
    if isinstance(error, InvalidArgument):
        return StatusCode.INVALID_ARGUMENT
    if isinstance(error, EngineRefused):
        # 404: the engine does not know the model that this service gave it. Not the caller's fault.
        return StatusCode.UNAVAILABLE if error.status == 404 else StatusCode.INVALID_ARGUMENT
    if isinstance(error, EngineTimeout):
        return StatusCode.DEADLINE_EXCEEDED
    if isinstance(error, EngineBusy):
        return StatusCode.RESOURCE_EXHAUSTED
    return StatusCode.UNAVAILABLE
