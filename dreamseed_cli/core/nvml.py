"""What NVML tells of this machine's cards, asked once, by a process of its own: any call may hang for ever.

`python -m dreamseed_cli.core.nvml` prints it as JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dreamseed_cli.core.bounded import output_within

if TYPE_CHECKING:
    from pynvml import NVMLError

T = TypeVar("T")
WITHIN_S = 5.0
GPU_NOT_FOUND = 28
"""In NVML's header since R535; the bindings learn the names of error codes late."""
_TRACES = tuple(Path(path) for path in ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"))
"""Of a driver that is loaded; the last one is WSL's."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The cards' names and power limits in watts, and the newest CUDA that the driver runs (12080 is 12.8).

    lost: cards that NVML counts and that answer nothing, each with why. fault: why nothing is known of the
    cards although a driver is loaded, in a sentence.
    """

    names: tuple[str, ...] = ()
    limits_w: tuple[float, ...] = ()
    lost: tuple[str, ...] = ()
    cuda: int | None = None
    fault: str = ""


def look(within_s: float = WITHIN_S) -> Seen:
    """All of it. Takes `within_s` and a second at most; a machine without a driver is not asked at all."""
    if not any(trace.exists() for trace in _TRACES):
        return Seen()
    done = output_within([sys.executable, "-m", "dreamseed_cli.core.nvml"], within_s)
    if done is None:
        return Seen(fault=f"NVML does not answer within {within_s:g} s: NVIDIA's driver hangs")
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        return Seen(fault=f"the process that asks NVML ended with {done.returncode}: {last or 'no word'}")
    return msgspec.json.decode(done.stdout, type=Seen)


def on_each(act: Callable[[Any], T]) -> list[T | NVMLError]:
    """Start NVML and do something with each card, by its handle; for the process that may hang.

    A card that cannot be opened, or is lost meanwhile, gives its error: those beside it still work. Raises
    NVMLError for everything else, and where no card works.
    """
    import pynvml

    pynvml.nvmlInit()
    done = [_on_one(index, act) for index in range(pynvml.nvmlDeviceGetCount())]
    lost = [one for one in done if isinstance(one, pynvml.NVMLError)]
    if lost and len(lost) == len(done):
        raise lost[0]
    return done


def _on_one(index: int, act: Callable[[Any], T]) -> T | NVMLError:
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return error
    try:
        return act(handle)
    except pynvml.NVMLError as error:
        if error.value in {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, GPU_NOT_FOUND}:
            return error
        raise


def no_driver(error: NVMLError) -> bool:
    """Whether this machine has no driver, rather than one that fails."""
    import pynvml

    return error.value in {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}


def explained(error: NVMLError) -> str:
    """NVML's own words, and what to do where it is known."""
    import pynvml

    remedies = {
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated while loaded: reboot this machine",
        pynvml.NVML_ERROR_NO_PERMISSION: "it takes root, or this user's right to /dev/nvidia*",
    }
    remedy = remedies.get(error.value)
    return f"{error}; {remedy}" if remedy else str(error)


def main() -> None:
    """The process."""
    import pynvml

    try:
        seen = _ask()
    except pynvml.NVMLError as error:
        seen = Seen() if no_driver(error) else Seen(fault=f"NVML: {explained(error)}")
    sys.stdout.write(msgspec.json.encode(seen).decode())


def _ask() -> Seen:
    told = on_each(_card)
    cards = [one for one in told if isinstance(one, tuple)]
    limits_w = tuple(limit_w for _, limit_w in cards if limit_w is not None)
    return Seen(
        names=tuple(name for name, _ in cards),
        limits_w=limits_w if len(limits_w) == len(cards) else (),
        lost=tuple(f"card {index}: {one}" for index, one in enumerate(told) if not isinstance(one, tuple)),
        cuda=_cuda(),
    )


def _card(handle: Any) -> tuple[str, float | None]:
    """Its name, and its limit in watts: not every one has one."""
    import pynvml

    name = str(pynvml.nvmlDeviceGetName(handle))
    try:
        return name, pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000
    except pynvml.NVMLError:
        return name, None


def _cuda() -> int | None:
    import pynvml

    try:
        return int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
    except pynvml.NVMLError:
        return None


if __name__ == "__main__":
    main()
