"""Why an engine's process ended, read from its exit code and its last lines. Pure.

The words are those of vLLM 0.32, PyTorch and CUDA; what matches nothing stays `unknown` and is restarted.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from enum import StrEnum


class ExitKind(StrEnum):
    """What an end was about, which decides whether starting again can help."""

    OUT_OF_MEMORY = "out_of_gpu_memory"
    CONFIGURATION = "configuration"
    GPU_FAULT = "gpu_fault"
    PORT_TAKEN = "port_taken"
    DISK_FULL = "disk_full"
    KILLED = "killed"
    UNKNOWN = "exited"


_PATTERNS: tuple[tuple[ExitKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(words, re.IGNORECASE))
    for kind, words in (
        (
            ExitKind.OUT_OF_MEMORY,
            r"out of memory|OutOfMemoryError|No available memory for the cache blocks|"
            r"Free memory on device .* is less than desired|"
            r"larger than the available KV cache memory|less than desired GPU memory utilization",
        ),
        (
            ExitKind.GPU_FAULT,
            r"\bXid\b|CUDA error: (?!out of memory)|uncorrectable ECC|GPU is lost|fallen off the bus|"
            r"unspecified launch failure|illegal memory access|cudaErrorDevice|NCCL error|"
            r"No CUDA GPUs are available|device-side assert",
        ),
        (ExitKind.PORT_TAKEN, r"address already in use|EADDRINUSE|Errno 98\b"),
        (ExitKind.DISK_FULL, r"No space left on device|Errno 28\b|Disk quota exceeded"),
        (
            ExitKind.CONFIGURATION,
            r"unrecognized arguments|invalid choice|argument --?[\w-]+: |"
            r"must be divisible by tensor parallel|is not a valid model identifier|"
            r"Repository Not Found|does not appear to have a file named|"
            r"Can't load the configuration of|Can't load tokenizer|is not a local folder|"
            r"No such file or directory: .*(config|model)|Invalid repository ID|not supported for now|"
            r"max_model_len .* is greater than the derived|Unknown quantization method|GatedRepoError|"
            r"Access to model .* is restricted|ValidationError.* for (Vllm|Model|Engine|Parallel)",
        ),
    )
)


def classify(exit_code: int | None, last_lines: Iterable[str]) -> ExitKind:
    """The kind of an end. exit_code: None if the process could not be started or is not ours to know.

    A signal that somebody sent says more than the lines before it. One that a process ends itself with, such
    as SIGABRT after a CUDA error, says less. Of several kinds in the lines the first of the list above wins:
    vLLM's last traceback often only says that its core died.
    """
    text = "\n".join(last_lines)
    found = next((kind for kind, words in _PATTERNS if words.search(text)), None)
    if exit_code is not None and -exit_code in {signal.SIGKILL, signal.SIGTERM, signal.SIGINT}:
        return ExitKind.KILLED
    if found is not None:
        return found
    return ExitKind.KILLED if exit_code is not None and exit_code < 0 else ExitKind.UNKNOWN
