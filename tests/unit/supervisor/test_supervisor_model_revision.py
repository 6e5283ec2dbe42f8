"""What tells one model from another under the same name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.engine.model_store import MANIFEST
from dreamseed_cli.profile.load import load_profile, parse_profile
from dreamseed_cli.profile.schema import Engine
from dreamseed_cli.supervisor.model_revision import model_revision


def _engine(profile: str, **changes: Any) -> Engine:
    return load_profile(profile).engine.model_copy(update=changes)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "Qwen/Another"},
        {"dtype": "bfloat16"},
        {"quantization": None},
        {"kv_cache_dtype": "fp8"},
        {"extra_args": ("--revision", "abc")},
        {"api": "completions"},
    ],
)
def test_whatever_changes_answers_changes_it(change: dict[str, Any]) -> None:
    """Model, number format, quantisation, template: the cache must not mix them."""
    before = model_revision(_engine("rtx5090x3"))
    assert model_revision(_engine("rtx5090x3")) == before
    assert model_revision(_engine("rtx5090x3", **change)) != before


def test_what_only_changes_the_speed_does_not() -> None:
    """More replicas or longer queues keep the cache warm."""
    change = {"replicas": 2, "max_num_seqs": 4, "served_name": "other", "start_timeout_s": 9.0}
    assert model_revision(_engine("rtx5090x3", **change)) == model_revision(_engine("rtx5090x3"))


def test_a_prepared_model_is_its_checksums(tmp_path: Path) -> None:
    """The same bytes elsewhere are the same model, another byte is another one."""
    revisions = []
    for name, checksum in (("a", "1" * 64), ("b", "1" * 64), ("c", "2" * 64)):
        folder = tmp_path / name
        folder.mkdir()
        manifest = {"files": {"model.safetensors": {"bytes": 1, "sha256": checksum}}}
        (folder / MANIFEST).write_text(json.dumps(manifest))
        revisions.append(model_revision(_engine("laptop"), folder))
    assert revisions[0] == revisions[1] != revisions[2]


def test_a_folder_is_its_files(tmp_path: Path) -> None:
    """Names, sizes and times of change: enough to see that it was replaced."""
    weights = tmp_path / "sub" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"x")
    before = model_revision(_engine("laptop"), tmp_path)
    assert model_revision(_engine("laptop"), tmp_path) == before
    os.utime(weights, ns=(1, 1))
    assert model_revision(_engine("laptop"), tmp_path) != before


def test_emulated_text_depends_on_seed_and_name() -> None:
    """The same seed gives the same text."""
    before = model_revision(_engine("emulated-rtx5090x3"))
    assert model_revision(_engine("emulated-rtx5090x3", seed=1)) != before
    assert model_revision(_engine("emulated-rtx5090x3", served_name="x")) != before


def test_a_remote_engine_is_its_models_name() -> None:
    """Nothing else is known of it; a second address of the same model shares the cache."""

    def remote(model: str, *urls: str) -> Engine:
        engine = {"kind": "remote", "urls": list(urls), "model": model}
        return parse_profile({"name": "far", "description": "x", "engine": engine}, source="test").engine

    assert model_revision(remote("m", "https://a")) == model_revision(remote("m", "https://a", "https://b"))
    assert model_revision(remote("m", "https://a")) != model_revision(remote("n", "https://a"))
