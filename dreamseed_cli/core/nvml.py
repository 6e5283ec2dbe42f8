"""What NVML tells of this machine's cards, asked once, by a process of its own: any call may hang for ever.

`python -m dreamseed_cli.core.nvml` prints it as JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dreamseed_cli.core.bounded import output_within

if TYPE_CHECKING:
    from pynvml import NVMLError

WITHIN_S = 5.0
_TRACES = tuple(Path(path) for path in ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"))
"""Of a driver that is loaded; the last one is WSL's."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The cards' names and power limits in watts, and the newest CUDA that the driver runs (12080 is 12.8).

    fault: why nothing is known of the cards although a driver is loaded, in a sentence.
    """

    names: tuple[str, ...] = ()
    limits_w: tuple[float, ...] = ()
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


def handles() -> Iterator[Any]:
    """Start NVML and open each card; for the process that may hang. Raises NVMLError."""
    import pynvml

    pynvml.nvmlInit()
    for index in range(pynvml.nvmlDeviceGetCount()):
        yield pynvml.nvmlDeviceGetHandleByIndex(index)


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
    import pynvml

    cards = list(handles())
    return Seen(
        names=tuple(str(pynvml.nvmlDeviceGetName(card)) for card in cards),
        limits_w=_limits_w(cards),
        cuda=_cuda(),
    )


def _limits_w(cards: list[Any]) -> tuple[float, ...]:
    """Empty where a card does not tell: not every one has a limit."""
    import pynvml

    try:
        return tuple(pynvml.nvmlDeviceGetPowerManagementLimit(card) / 1000 for card in cards)
    except pynvml.NVMLError:
        return ()


def _cuda() -> int | None:
    import pynvml

    try:
        return int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
    except pynvml.NVMLError:
        return None


if __name__ == "__main__":
    main()
