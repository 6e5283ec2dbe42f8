"""Reads cards through NVML. Only the child imports it: any call here may hang for ever."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml

from dreamseed_cli.core.nvml import GPU_NOT_FOUND, explained, no_driver
from dreamseed_cli.supervisor.gpu.reading import (
    RECOVERY_ACTIONS,
    THROTTLE_REASONS,
    CardReading,
    Loss,
    LostCard,
    Poll,
    Problem,
    Skip,
    XidEvent,
)

_LOSSES = {
    pynvml.NVML_ERROR_GPU_IS_LOST: Loss.LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED: Loss.RESET_REQUIRED,
    GPU_NOT_FOUND: Loss.NOT_FOUND,
}
_RECOVERY_FIELD: int | None = getattr(pynvml, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)

T = TypeVar("T")
AtCard = Callable[[int, str], None]
"""Told index and uuid of each card before it is touched, so that a hang can be laid at its door."""


class Lost(Exception):
    """The card that was asked is gone, or refuses everything."""

    def __init__(self, loss: Loss, detail: str) -> None:
        super().__init__(detail)
        self.loss = loss


@dataclass(frozen=True, slots=True)
class Handle:
    """A card as NVML opened it; nvml is None where it could not be opened, and loss says why."""

    index: int
    uuid: str
    nvml: Any
    loss: LostCard | None = None


class Unavailable(Exception):
    """NVML cannot be used: as a poll that names it."""

    def __init__(self, poll: Poll) -> None:
        super().__init__(poll.detail)
        self.poll = poll


def connect(skip: Skip, at_card: AtCard) -> list[Handle]:
    """Start NVML and open every card but those to skip."""
    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        raise Unavailable(_unavailable(error)) from error
    if count == 0:
        raise Unavailable(Poll(problem=Problem.NO_CARDS, detail="the driver is there, and no card"))
    left = [index for index in range(count) if count != skip.of or index not in skip.indices]
    handles = [_open(index, at_card) for index in left]
    return [handle for handle in handles if not handle.uuid or handle.uuid not in skip.uuids]


def read(handles: list[Handle], at_card: AtCard) -> Poll:
    """Every open card's figures."""
    cards: list[CardReading] = []
    lost: list[LostCard] = []
    for handle in handles:
        at_card(handle.index, handle.uuid)
        outcome = _read(handle)
        if isinstance(outcome, CardReading):
            cards.append(outcome)
        else:
            lost.append(outcome)
    return Poll(tuple(cards), tuple(lost))


class XidEvents:
    """The critical Xids of those cards that report any, from now on."""

    def __init__(self, handles: list[Handle], at_card: AtCard) -> None:
        self._set = pynvml.nvmlEventSetCreate()
        self._handles = [handle for handle in handles if self._register(handle, at_card)]

    def __bool__(self) -> bool:
        return bool(self._handles)

    def wait(self, wait_ms: int) -> XidEvent | None:
        """The next one; None if there is none within that time."""
        try:
            data = pynvml.nvmlEventSetWait_v2(self._set, wait_ms)
        except pynvml.NVMLError_Timeout:
            return None
        # By the card's address, not by asking the card: it may just have fallen off the bus.
        where = _address(data.device)
        of = next((handle for handle in self._handles if _address(handle.nvml) == where), None)
        return XidEvent(int(data.eventData), of.index if of else None, of.uuid if of else "")

    def _register(self, handle: Handle, at_card: AtCard) -> bool:
        if handle.nvml is None:
            return False
        at_card(handle.index, handle.uuid)
        try:
            pynvml.nvmlDeviceRegisterEvents(handle.nvml, pynvml.nvmlEventTypeXidCriticalError, self._set)
        except pynvml.NVMLError:
            return False
        return True


def _unavailable(error: pynvml.NVMLError) -> Poll:
    problem = Problem.DRIVER_MISSING if no_driver(error) else Problem.FAILED
    return Poll(problem=problem, detail=explained(error))


def _open(index: int, at_card: AtCard) -> Handle:
    at_card(index, "")
    try:
        nvml = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        loss = _LOSSES.get(error.value, Loss.LOST)
        return Handle(index, "", None, LostCard(index, "", loss, str(error)))
    try:
        return Handle(index, str(_ask(pynvml.nvmlDeviceGetUUID, nvml) or ""), nvml)
    except Lost as lost:
        return Handle(index, "", nvml, LostCard(index, "", lost.loss, str(lost)))


def _address(nvml: Any) -> int | None:
    return ctypes.cast(nvml, ctypes.c_void_p).value


def _read(handle: Handle) -> CardReading | LostCard:
    if handle.nvml is None and handle.loss is not None:
        return handle.loss
    try:
        return _figures(handle)
    except Lost as lost:
        return LostCard(handle.index, handle.uuid, lost.loss, str(lost))


def _figures(handle: Handle) -> CardReading:
    nvml = handle.nvml
    utilisation = _ask(pynvml.nvmlDeviceGetUtilizationRates, nvml)
    memory = _memory(nvml)
    power, limit = (
        _ask(pynvml.nvmlDeviceGetPowerUsage, nvml),
        _ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, nvml),
    )
    temperature = _ask(pynvml.nvmlDeviceGetTemperature, nvml, pynvml.NVML_TEMPERATURE_GPU)
    ecc = _ask(
        pynvml.nvmlDeviceGetTotalEccErrors,
        nvml,
        pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        pynvml.NVML_VOLATILE_ECC,
    )
    return CardReading(
        index=handle.index,
        uuid=handle.uuid,
        name=str(_ask(pynvml.nvmlDeviceGetName, nvml) or "unnamed"),
        utilisation=_or_none(utilisation, lambda told: told.gpu / 100),
        memory_used_bytes=_or_none(memory, lambda told: int(told.used)),
        memory_total_bytes=_or_none(memory, lambda told: int(told.total)),
        power_w=_or_none(power, lambda milliwatts: milliwatts / 1000),
        power_limit_w=_or_none(limit, lambda milliwatts: milliwatts / 1000),
        temperature_c=_or_none(temperature, int),
        throttle=_throttle(nvml),
        ecc_uncorrected=_or_none(ecc, int),
        recovery_action=_recovery_action(nvml),
        pids=_pids(nvml),
    )


def _memory(nvml: Any) -> Any:
    """Version 2 counts what the driver reserves apart; old drivers have only version 1."""
    told = _ask(pynvml.nvmlDeviceGetMemoryInfo, nvml, pynvml.nvmlMemory_v2)
    return told if told is not None else _ask(pynvml.nvmlDeviceGetMemoryInfo, nvml)


def _throttle(nvml: Any) -> tuple[str, ...] | None:
    bits = _ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, nvml)
    if bits is None:
        # The name before R535.
        bits = _ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, nvml)
    return _or_none(bits, lambda told: tuple(name for bit, name in THROTTLE_REASONS.items() if told & bit))


def _recovery_action(nvml: Any) -> str | None:
    if _RECOVERY_FIELD is None:
        return None
    values = _ask(pynvml.nvmlDeviceGetFieldValues, nvml, [_RECOVERY_FIELD])
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    code = int(values[0].value.uiVal)
    return RECOVERY_ACTIONS.get(code, f"unknown_{code}")


def _pids(nvml: Any) -> tuple[int, ...] | None:
    """None where the card lists no computing processes; those for graphics are only added."""
    computing = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, nvml)
    if computing is None:
        return None
    graphics = _ask(pynvml.nvmlDeviceGetGraphicsRunningProcesses, nvml) or []
    return tuple(sorted({int(process.pid) for process in [*computing, *graphics]}))


def _ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """What NVML answers; None where this card or driver does not tell. Lost when the card is gone."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        loss = _LOSSES.get(error.value)
        if loss is not None:
            raise Lost(loss, str(error)) from error
        return None


def _or_none(told: Any, convert: Callable[[Any], T]) -> T | None:
    return None if told is None else convert(told)
