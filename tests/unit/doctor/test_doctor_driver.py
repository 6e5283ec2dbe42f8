"""What `dreamseed doctor` says of NVIDIA's driver."""

from __future__ import annotations

import importlib.util
import sysconfig
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from doctor_findings import program

from dreamseed_cli.doctor import driver, engine
from dreamseed_cli.doctor.driver import Cuda
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import VllmEngine


def _engine(launcher: str = "process") -> VllmEngine:
    engine = load_profile("rtx5090x3").engine
    assert isinstance(engine, VllmEngine)
    return engine.model_copy(update={"launcher": launcher})


def test_its_version_is_read_from_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer ones name the kind of module before it."""
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release\nGCC: 12.2.0"
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    assert driver.version() == "580.95.05"


@pytest.mark.parametrize(
    ("given", "built_for", "launcher", "level"),
    [
        (12080, (13, 0), "process", "problem"),
        (12080, (13, 0), "docker", "ok"),
        (12080, (12, 9), "process", "ok"),
        (13010, (12, 8), "process", "ok"),
        (None, (13, 0), "process", "ok"),
        (12080, None, "process", "ok"),
    ],
)
def test_its_cuda_is_held_against_the_one_of_torch(
    monkeypatch: pytest.MonkeyPatch, given: int | None, built_for: Cuda | None, launcher: str, level: str
) -> None:
    """An older major version runs nothing of a newer one's; a container brings its own torch."""
    monkeypatch.setattr(driver, "cuda_of_torch", lambda: built_for)
    (found,) = driver.look(_engine(launcher), "580.95", given)
    assert found.level.value == level
    assert ("torch is built for CUDA" in found.said) == (built_for is not None and launcher == "process")


@pytest.mark.parametrize(
    ("line", "cuda"),
    [("cuda: Optional[str] = '12.8'", (12, 8)), ("cuda = '13.0'", (13, 0)), ("cuda: str = None", None)],
)
def test_the_cuda_of_torch_is_read_from_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, cuda: Cuda | None
) -> None:
    """As torch writes it, in old and new ways; a build for processors has none."""
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\nhip = None\n")
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    assert driver.cuda_of_torch() == cuda


def test_without_torch_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is missing is told by what the engines need."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert driver.cuda_of_torch() is None


@pytest.mark.parametrize(
    ("programs", "headers", "launcher", "lacks"),
    [
        (["gcc"], True, "process", []),
        (["clang"], True, "process", []),
        ([], True, "process", ["a C compiler"]),
        (["gcc"], False, "process", ["Python.h"]),
        ([], False, "process", ["a C compiler", "Python.h"]),
        ([], False, "docker", []),
    ],
)
def test_what_triton_compiles_with_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    programs: list[str],
    headers: bool,
    launcher: str,
    lacks: list[str],
) -> None:
    """Without it vLLM dies a minute after its start; Debian and Ubuntu have neither by themselves."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    for name in programs:
        program(tmp_path, name, "")
    if headers:
        (tmp_path / "Python.h").touch()
    found = list(driver.compiler(_engine(launcher)))
    assert [one.level.value for one in found] == ["warning"] * bool(lacks)
    assert all(what in one.said for one in found for what in lacks)
    assert all("gcc" in one.remedy and "-dev" in one.remedy for one in found)


def test_engines_without_cards_compile_nothing() -> None:
    """No false alarm on a laptop."""
    assert not list(engine.compiler(load_profile("laptop")))
