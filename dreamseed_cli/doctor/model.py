"""Whether the model lies on the disk, whole: a first start that has to download is a surprise at 3 a.m."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from dreamseed_cli.core.counting import counted
from dreamseed_cli.doctor.finding import Finding, off, ok, warning
from dreamseed_cli.engine.model_store import MANIFEST, PREPARED_MODELS, model_folder
from dreamseed_cli.profile.schema import Profile, VllmEngine

_AREA = "engine"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.")


def model(profile: Profile) -> Iterator[Finding]:
    """By its files' names: their content is not read."""
    engine = profile.engine
    if not isinstance(engine, VllmEngine):
        yield off(_AREA, "model", f"the engines are {engine.kind}")
    elif engine.model in PREPARED_MODELS:
        yield _prepared(engine.model)
    elif engine.model.startswith(("/", "./", "../", "~")):
        yield _own(engine.model)
    else:
        yield _of_hub(engine)


def _prepared(name: str) -> Finding:
    folder = model_folder(name)
    if (folder / MANIFEST).exists():
        return ok(_AREA, "model", f"{name} in {folder}")
    return ok(_AREA, "model", f"{name} is prepared at the first start (89 MB from the package index)")


def _own(name: str) -> Finding:
    place = Path(name).expanduser()
    lacks = None if place.is_file() else _lacks(place)
    if lacks is None:
        return ok(_AREA, "model", str(place))
    return warning(_AREA, "model", f"{place}: {lacks}", "Check engine.model, and copy what is missing.")


def _of_hub(engine: VllmEngine) -> Finding:
    """In Hugging Face's cache, at the revision that the engine is started with."""
    name, cache = engine.model, hub_cache(os.environ)
    place = cache / f"models--{name.replace('/', '--')}"
    get = f"Get it before: hf download {name} (as the user who serves, with the same HF_HOME)."
    if not place.exists():
        return warning(_AREA, "model", f"{name} is not in {cache}", get)
    if list(place.glob("blobs/*.incomplete")):
        return warning(_AREA, "model", f"the download of {name} was interrupted ({place})", get)
    snapshot = _snapshot(place, _revision(engine.extra_args))
    lacks = "this revision was not fetched" if snapshot is None else _lacks(snapshot)
    if lacks is not None:
        return warning(_AREA, "model", f"{name} in {place}: {lacks}", get)
    return ok(_AREA, "model", f"{name} in {place}")


def hub_cache(environment: Mapping[str, str]) -> Path:
    """As huggingface_hub finds it (its `constants.py`)."""
    home = environment.get("HF_HOME", environment.get("XDG_CACHE_HOME", "~/.cache") + "/huggingface")
    told = environment.get("HF_HUB_CACHE", environment.get("HUGGINGFACE_HUB_CACHE", f"{home}/hub"))
    return Path(os.path.expandvars(told)).expanduser()


def _revision(extra_args: tuple[str, ...]) -> str:
    words = iter(extra_args)
    for word in words:
        name, has_value, value = word.partition("=")
        if name == "--revision":
            return value if has_value else next(words, "main")
    return "main"


def _snapshot(place: Path, revision: str) -> Path | None:
    """Its folder: of a branch's or a tag's commit, or of a commit."""
    try:
        commit = (place / "refs" / revision).read_text().strip()
    except OSError:
        commit = revision
    folder = place / "snapshots" / commit
    return folder if folder.is_dir() else None


def _lacks(folder: Path) -> str | None:
    """What is missing of a model in this folder; None: nothing."""
    if not (folder / "config.json").exists():
        return "no config.json"
    wanted = _named_by_index(folder)
    there = {path.name for path in folder.iterdir() if path.exists()}
    if wanted:
        missing = wanted - there
    else:
        weights = [name for name in there if name.endswith(_WEIGHTS)]
        if not weights:
            return "no weights"
        missing = {shard for name in weights for shard in _shards(name)} - there
    return (
        f"{counted(len(missing), 'file')} of weights missing, {min(missing)} among them" if missing else None
    )


def _named_by_index(folder: Path) -> set[str]:
    """The files that hold the weights, by the index beside them; empty: there is none."""
    for path in sorted(folder.glob("*.index.json")):
        try:
            return set(json.loads(path.read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            continue
    return set()


def _shards(name: str) -> Iterator[str]:
    """All that belong to a file such as model-00001-of-00004.safetensors, it among them."""
    found = _SHARD.search(name)
    if found is None:
        return
    width, count = len(found[1]), int(found[2])
    for number in range(1, count + 1):
        yield f"{name[: found.start(1)]}{number:0{width}}{name[found.end(1) :]}"
