"""NVIDIA's driver: its version, whether its CUDA is enough for torch's, and what vLLM compiles with."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from dreamseed_cli.doctor.finding import Finding, ok, problem, warning
from dreamseed_cli.profile.schema import VllmEngine

_AREA = "engine"
_MIN_BRANCH = 570
"""The first driver branch with CUDA 12.8, which the Blackwell cards and vLLM 0.32 ask for."""
_TORCH_CUDA = re.compile(r"^cuda\b[^=]*= '(\d+)\.(\d+)'$", re.MULTILINE)
Cuda = tuple[int, int]


def look(engine: VllmEngine, loaded: str, told: int | None) -> Iterator[Finding]:
    """loaded: its version; told: its CUDA as NVML tells it, if it does: 12080 is 12.8.

    In a container (launcher `docker`) torch is the image's.
    """
    given = None if told is None else (told // 1000, told % 1000 // 10)
    built_for = cuda_of_torch() if engine.launcher == "process" else None
    said = loaded if given is None else f"{loaded}, CUDA {given[0]}.{given[1]}"
    if built_for is not None:
        said = f"{said}; torch is built for CUDA {built_for[0]}.{built_for[1]}"
    # Within a major version an older driver runs what a newer CUDA built (minor version compatibility).
    if given is not None and built_for is not None and given[0] < built_for[0]:
        yield problem(_AREA, "driver", said, f"Install a driver with CUDA {built_for[0]} or newer.")
    elif int(loaded.partition(".")[0]) < _MIN_BRANCH:
        yield warning(_AREA, "driver", said, f"Take {_MIN_BRANCH} or newer: vLLM's CUDA asks for it.")
    else:
        yield ok(_AREA, "driver", said)


def compiler(engine: VllmEngine) -> Iterator[Finding]:
    """What vLLM's Triton compiles its way to the driver with when it first starts. Told only if it lacks.

    In a container it is the image's. Python brings its headers in a package of its own on Debian and Ubuntu.
    """
    if engine.launcher != "process":
        return
    has_compiler = os.environ.get("CC") or any(shutil.which(name) for name in ("gcc", "clang"))
    has_headers = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h").exists()
    lacks = [what for what, has in (("a C compiler", has_compiler), ("Python.h", has_headers)) if not has]
    if lacks:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        yield warning(
            _AREA,
            "compiler",
            f"vLLM compiles at its first start, and there is no {' and no '.join(lacks)}",
            f"apt-get install gcc {package}",
        )


def version() -> str | None:
    """As /proc/driver/nvidia/version has it; None: no driver is loaded."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return None
    return next((word for word in words if word.partition(".")[0].isdigit() and "." in word), "0")


def cuda_of_torch() -> Cuda | None:
    """From its file: an import takes seconds. None: it is not installed, or built without CUDA."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        built = _TORCH_CUDA.search(Path(found.origin).with_name("version.py").read_text())
    except OSError:
        return None
    return (int(built[1]), int(built[2])) if built else None
