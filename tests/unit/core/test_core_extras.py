"""What is said where an optional part is missing."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from dreamseed_cli.core.extras import Extra, how_to_install

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("extra", get_args(Extra))
def test_a_remedy_names_what_can_be_run(extra: Extra) -> None:
    """The make target of the checkout, and no package of our own name: no registry has one."""
    remedy = how_to_install(extra)
    assert "make setup" in remedy
    assert "dreamseed[" not in remedy
    assert "\nsetup:" in (_ROOT / "Makefile").read_text()


@pytest.mark.parametrize("extra", ["embedded", "gpu"])
def test_pip_is_told_the_versions_that_are_locked(extra: Extra) -> None:
    """Those of pyproject.toml, word by word."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    assert f"pip install {' '.join(project['optional-dependencies'][extra])} into" in how_to_install(extra)


def test_the_cpu_build_is_not_left_to_pip() -> None:
    """pip alone would take PyTorch's CUDA build beside it; the lock takes the CPU's."""
    assert "pip install" not in how_to_install("cpu")
    assert (_ROOT / "requirements/cpu.lock").read_text().count("torch==2.13.0+cpu") == 1
