"""An installed package is whole: profiles, tables, templates and the man page travel with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Sequence
from importlib.metadata import Distribution, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dreamseed_cli import __version__

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pipx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of pipx with the wheel in it: `dreamseed` in bin, its page in man, its environment in venvs."""
    folder = tmp_path_factory.mktemp("package")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    _needed_packages(folder / "user" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix))
    offline = ["--system-site-packages", "--pip-args=--no-deps --no-index"]
    install = [sys.executable, "-m", "pipx", "install", *offline, str(next(folder.glob("*.whl")))]
    places = {"HOME": folder / "home", "BIN_DIR": folder / "bin", "MAN_DIR": folder / "man"}
    env = _environment(folder) | {f"PIPX_{name}": str(place) for name, place in places.items()}
    done = subprocess.run(install, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _needed_packages(site: Path) -> None:
    """What the program depends on, as packages of a user: the wheel finds them without any index.

    This checkout's own is left out, or pipx would look at that.
    """
    site.mkdir(parents=True)
    for one in Path(sysconfig.get_path("purelib")).iterdir():
        if "dreamseed" not in one.name:
            (site / one.name).symlink_to(one)


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONUSERBASE": str(folder / "user"), "PIP_NO_INDEX": "1"}


@pytest.fixture(scope="module")
def installed(pipx: Path) -> Path:
    """The environment that pipx made."""
    return pipx / "home" / "venvs" / "dreamseed"


def _run(environment: Path, *arguments: str, **variables: str) -> str:
    """What the installed program prints. Only what it depends on comes from this checkout's environment."""
    return _call(environment, [environment / "bin" / "dreamseed", *arguments], variables)


def _call(environment: Path, argv: Sequence[str | Path], variables: dict[str, str]) -> str:
    env = _environment(environment.parents[2]) | {"PYTHONPATH": ""} | variables
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=env, cwd=environment)
    return str(done.stdout)


def _data(environment: Path, *arguments: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_run(environment, *arguments, "--json"))["data"]
    return data


def test_pipx_puts_the_program_and_its_page_where_they_are_found(pipx: Path, installed: Path) -> None:
    """As the README says: `dreamseed` on the PATH, and `man dreamseed`."""
    program, page = pipx / "bin" / "dreamseed", pipx / "man" / "man1" / "dreamseed.1"
    assert program.resolve() == installed / "bin" / "dreamseed"
    assert _call(installed, [program, "--version"], {}) == f"dreamseed {__version__}\n"
    assert page.read_bytes() == (ROOT / "docs" / "dreamseed.1").read_bytes()


def test_an_installed_dreamseed_asks_for_what_it_needs(installed: Path) -> None:
    """pip and pipx go by the wheel's metadata: it has all of pyproject.toml, which these tests run with."""
    (folder,) = installed.glob("lib/python*/site-packages/dreamseed-*.dist-info")
    wheel = Distribution.at(folder)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {str(Requirement(one)) for one in project["dependencies"]}
    optional = {
        str(Requirement(f'{one} ; extra == "{extra}"'))
        for extra, ones in project["optional-dependencies"].items()
        for one in ones
    }
    told = [Requirement(one) for one in wheel.requires or ()]
    assert {str(one) for one in told} == needed | optional
    assert SpecifierSet(wheel.metadata["Requires-Python"]) == SpecifierSet(project["requires-python"])
    assert [one.value for one in wheel.entry_points] == list(project["scripts"].values())
    wrong = [one for one in told if one.marker is None and version(one.name) not in one.specifier]
    assert wrong == []


_WORDS = {
    "bash": {"COMP_WORDS": "dreamseed dep", "COMP_CWORD": "1"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "dreamseed dep"},
    "fish": {"_TYPER_COMPLETE_ARGS": "dreamseed dep", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}
"""How each shell's script hands over what was typed so far."""


@pytest.mark.parametrize("shell", _WORDS)
def test_an_installed_dreamseed_completes_in_each_shell(installed: Path, tmp_path: Path, shell: str) -> None:
    """`--show-completion` prints a script for the shell it runs in, and what that asks for gets an answer.

    The script's grammar is looked at where the shell is here.
    """
    program, bash = shutil.which(shell), shutil.which("bash")
    assert bash is not None
    # The shell is known by its name, so that another can stand for one that is not here.
    stand_in = tmp_path / shell
    stand_in.symlink_to(program or bash)
    command = f"{installed / 'bin' / 'dreamseed'} --show-completion; true"
    script = _call(installed, [stand_in, "-c", command], {})
    assert f"_DREAMSEED_COMPLETE=complete_{shell}" in script
    if program is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([program, "-n", tmp_path / "script"], check=True)
    assert "deploy" in _run(installed, _DREAMSEED_COMPLETE=f"complete_{shell}", **_WORDS[shell])


def test_an_installed_dreamseed_has_its_profiles(installed: Path) -> None:
    """The same as the checkout's, and not read from there."""
    listed = _data(installed, "profile", "list")
    assert Path(listed["directory"]).is_relative_to(installed)
    names = {profile["name"] for profile in listed["profiles"]}
    assert names == {path.stem for path in (ROOT / "profiles").glob("*.toml")}


def test_an_installed_dreamseed_computes_from_its_tables(installed: Path) -> None:
    """Of cards and models, of prices, and of the document's figures."""
    assert _data(installed, "profile", "check", "rtx5090x3")["computed_per_card"]["kv_cache_tokens"] > 0
    assert _data(installed, "cost-sim", "--users", "1000", "--hours", "0", "--draws", "10")
    assert "contradicted" in _run(installed, "estimates", "c1-vcpu-usd")
    figures = installed.glob("lib/python*/site-packages/dreamseed_cli/_benchmarks/estimates.toml")
    assert [one.read_bytes() for one in figures] == [(ROOT / "benchmarks/estimates.toml").read_bytes()]


def test_an_installed_dreamseed_renders_what_the_checkout_does(installed: Path, tmp_path: Path) -> None:
    """Every template and dashboard is in the wheel: the same files, byte for byte."""
    arguments = ["deploy", "render", "all", "--profile", "rtx5090x3", "--out"]
    _run(installed, *arguments, str(tmp_path / "installed"))
    checkout = [sys.executable, "-m", "dreamseed_cli", *arguments, str(tmp_path / "checkout")]
    subprocess.run(checkout, cwd=ROOT, check=True, capture_output=True)
    rendered = _contents(tmp_path / "installed")
    assert rendered
    assert rendered == _contents(tmp_path / "checkout")


def _contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}
