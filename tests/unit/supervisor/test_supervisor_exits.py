"""What an end was about, from real last words of vLLM 0.32, PyTorch and CUDA."""

from __future__ import annotations

import pytest

from dreamseed_cli.supervisor.exits import ExitKind, classify

_DIED = "RuntimeError: Engine core initialization failed. See root cause above."


@pytest.mark.parametrize(
    ("code", "line", "kind"),
    [
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.", ExitKind.OUT_OF_MEMORY),
        (1, "ValueError: No available memory for the cache blocks.", ExitKind.OUT_OF_MEMORY),
        (
            1,
            "ValueError: Free memory on device (1/32 GiB) on startup is less than desired GPU memory",
            ExitKind.OUT_OF_MEMORY,
        ),
        (
            1,
            "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
            ExitKind.GPU_FAULT,
        ),
        (-6, "CUDA error: uncorrectable ECC error encountered", ExitKind.GPU_FAULT),
        (1, "NVRM: Xid (PCI:0000:41:00): 79, GPU has fallen off the bus.", ExitKind.GPU_FAULT),
        (1, "RuntimeError: No CUDA GPUs are available", ExitKind.GPU_FAULT),
        (1, "OSError: [Errno 98] Address already in use", ExitKind.PORT_TAKEN),
        (1, "OSError: [Errno 28] No space left on device", ExitKind.DISK_FULL),
        (2, "api_server.py: error: unrecognized arguments: --no-such-flag", ExitKind.CONFIGURATION),
        (1, "OSError: /m does not appear to have a file named config.json", ExitKind.CONFIGURATION),
        (
            1,
            "Total number of attention heads (40) must be divisible by tensor parallel size (3).",
            ExitKind.CONFIGURATION,
        ),
        (-9, "INFO: 200 OK", ExitKind.KILLED),
        (-15, "an old line: CUDA out of memory", ExitKind.KILLED),
        (-11, "INFO: 200 OK", ExitKind.KILLED),
        (1, "INFO: 200 OK", ExitKind.UNKNOWN),
        (0, "", ExitKind.UNKNOWN),
        (None, "", ExitKind.UNKNOWN),
    ],
)
def test_kinds(code: int | None, line: str, kind: ExitKind) -> None:
    """The reason may stand lines above the last traceback."""
    assert classify(code, [line, "Traceback (most recent call last):", _DIED]) is kind


def test_an_out_of_memory_is_no_gpu_fault() -> None:
    """`CUDA error: out of memory` has the words of both: the card is well."""
    assert classify(1, ["RuntimeError: CUDA error: out of memory"]) is ExitKind.OUT_OF_MEMORY
