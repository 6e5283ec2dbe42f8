"""What a process was started with, as one hash: who adopts a process must know that it is the same. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dreamseed_cli.engine.types import Command

_STEERING = ("VLLM_", "CUDA_", "NVIDIA_", "NCCL_", "HF_", "TORCH", "PYTORCH_", "OMP_", "PYTHON", "LD_")
"""Beginnings of the variables by which an operator changes how engines behave. Not all of the environment: a
terminal's or a service manager's own variables differ from start to start."""


def fingerprint(command: Command, config: str, *, environment: Mapping[str, str], version: str) -> str:
    """SHA-256 in hex of a command, its own environment, its configuration, and the program's version.

    config: the text it reads at its start. environment: what it inherits, of which count the variables that
    steer engines and those that `config` names (in JSON, a field that ends in `_env`), such as a password's:
    a process that has an old one is not the same.
    """
    inherited = {name for name in environment if name.startswith(_STEERING)} | set(_named(config))
    told = [
        version,
        command.argv,
        sorted(command.env.items()),
        config,
        [(name, environment.get(name)) for name in sorted(inherited)],
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _named(config: str) -> Iterator[str]:
    try:
        yield from _variables(json.loads(config))
    except ValueError:
        return  # not JSON: it names none


def _variables(part: Any) -> Iterator[str]:
    for name, value in part.items() if isinstance(part, dict) else ():
        if name.endswith("_env") and isinstance(value, str):
            yield value
        yield from _variables(value)
