"""What tells a model and its quantisation from any other under the same name: a part of every cache key."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dreamseed_cli.engine.model_store import MANIFEST
from dreamseed_cli.profile.schema import EmulatedEngine, Engine, VllmEngine


def model_revision(engine: Engine, folder: Path | None = None) -> str:
    """The same for the same model as it is served, another one as soon as an answer could differ by it.

    folder: where the model lies, if it is in a folder. A Hugging Face id stands for itself: pin its revision
    with `extra_args = ["--revision", ...]`, which counts here. A remote engine is told by its model's name
    alone, for we know no more of it.
    """
    if isinstance(engine, VllmEngine):
        facts: Any = [
            _content(folder) if folder else engine.model,
            engine.dtype,
            engine.quantization,
            engine.kv_cache_dtype,
            engine.extra_args,
        ]
    elif isinstance(engine, EmulatedEngine):
        facts = [engine.served_name, engine.seed]
    else:
        facts = [engine.model]
    told = json.dumps([engine.kind, engine.api, *facts], ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _content(folder: Path) -> list[Any]:
    """A prepared model's checksums. Else every file's name, size and time of change: reading tens of
    gigabytes at every start would say no more.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        return [[str(path.relative_to(folder)), *_facts(path)] for path in found]
    return sorted([name, facts["sha256"]] for name, facts in files.items())


def _facts(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
