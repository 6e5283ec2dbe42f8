"""What `dreamseed doctor` says of the model on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doctor_findings import levels_of

from dreamseed_cli.doctor.model import hub_cache, model
from dreamseed_cli.engine.model_store import MANIFEST
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile

NAME = "someone/some-model"
COMMIT = "c0ffee"


def _profile(name: str, *extra_args: str) -> Profile:
    told = load_profile("laptop").model_dump()
    told["engine"] |= {"model": name, "extra_args": extra_args}
    return Profile.model_validate(told, strict=False)


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of a whole model of two shards in Hugging Face's cache, as `hf download` leaves it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--someone--some-model"
    snapshot = place / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    (place / "blobs").mkdir()
    shards = [f"model-{number:05}-of-00002.safetensors" for number in (1, 2)]
    for name in ("config.json", *shards):
        (place / "blobs" / f"of-{name}").write_text("{}")
        (snapshot / name).symlink_to(f"../../blobs/of-{name}")
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    return snapshot


@pytest.mark.parametrize(
    ("base", "level"), [("laptop", "ok"), ("emulated-rtx5090x3", "off"), ("rtx5090x3", "warning")]
)
def test_one_that_has_to_be_fetched_first_is_told(
    base: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours is small and is fetched by itself."""
    for name in ("HOME", "DREAMSEED_CACHE_DIR", "HF_HOME"):
        monkeypatch.setenv(name, "/nowhere")
    assert levels_of(model(load_profile(base))) == {"model": level}


def test_our_own_is_found_where_it_was_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its manifest."""
    monkeypatch.setenv("DREAMSEED_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "models" / "smollm2-135m-instruct"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    (found,) = model(load_profile("laptop"))
    assert str(folder) in found.said


def test_a_whole_one_of_hugging_face_is_found(fetched: Path) -> None:
    """With its config.json and all shards that its index names."""
    assert levels_of(model(_profile(NAME))) == {"model": "ok"}
    assert levels_of(model(_profile(NAME, "--revision", COMMIT))) == {"model": "ok"}
    assert levels_of(model(_profile(NAME, "--revision=main"))) == {"model": "ok"}


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("config.json", "no config.json"),
        ("model-00002-of-00002.safetensors", "model-00002-of-00002.safetensors among them"),
    ],
)
@pytest.mark.parametrize("indexed", [True, False])
def test_one_that_lacks_a_file_is_told(fetched: Path, lost: str, said: str, indexed: bool) -> None:
    """Its link is there, what it leads to is not; a shard's name tells its siblings where no index does."""
    (fetched / lost).resolve().unlink()
    if not indexed:
        (fetched / "model.safetensors.index.json").unlink()
    (found,) = model(_profile(NAME))
    assert (found.level.value, said in found.said) == ("warning", True)
    assert f"hf download {NAME}" in found.remedy


def test_an_interrupted_download_is_no_model(fetched: Path) -> None:
    """Its folder is there all the same."""
    (fetched.parents[1] / "blobs" / "c0de.incomplete").touch()
    (found,) = model(_profile(NAME))
    assert (found.level.value, "interrupted" in found.said) == ("warning", True)


def test_another_revision_is_another_model(fetched: Path) -> None:
    """The engine would fetch it."""
    (found,) = model(_profile(NAME, "--revision", "v2"))
    assert (found.level.value, "revision" in found.said) == ("warning", True)


def test_one_in_a_folder_needs_its_weights(tmp_path: Path) -> None:
    """And a single file is one, too."""
    (tmp_path / "config.json").write_text("{}")
    (found,) = model(_profile(str(tmp_path)))
    assert (found.level.value, "no weights" in found.said) == ("warning", True)
    weights = tmp_path / "model.safetensors"
    weights.touch()
    assert levels_of(model(_profile(str(tmp_path)))) == {"model": "ok"}
    assert levels_of(model(_profile(str(weights)))) == {"model": "ok"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, "~/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/y"}, "/y/hub"),
        ({"HF_HOME": "/y", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HF_HOME": "/y", "HF_HUB_CACHE": "/z"}, "/z"),
    ],
)
def test_the_cache_is_where_hugging_face_has_it(environment: dict[str, str], place: str) -> None:
    """Its variables, the more special one first."""
    assert hub_cache(environment) == Path(place).expanduser()
