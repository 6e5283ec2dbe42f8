"""The version stands in `dreamseed_cli/__init__.py` alone; whatever else names it is held against that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dreamseed_cli import __version__
from dreamseed_cli.app import main
from dreamseed_cli.deploy.catalog import TARGETS
from dreamseed_cli.deploy.render import render
from dreamseed_cli.profile.load import load_profile

ROOT = Path(__file__).resolve().parents[2]


def test_the_program_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The wheel's metadata takes it from the same line (test_package builds one)."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"dreamseed {__version__}\n")
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_the_changelog_begins_with_it_and_its_day() -> None:
    """What was changed since is told above, under `## Unreleased`."""
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    newest = next(one for one in headings if one != "Unreleased")
    assert re.fullmatch(rf"{re.escape(__version__)} - \d{{4}}-\d{{2}}-\d{{2}}", newest)


@pytest.mark.parametrize("page", ["README.md", "README.ko.md", "docs/runbooks/deploy.md"])
def test_the_wheel_that_a_page_installs_is_this_one(page: str) -> None:
    """`pipx install` and `pip install` name its file."""
    named = re.findall(r"dreamseed-([\w.]+)-py3-none-any\.whl", (ROOT / page).read_text())
    assert set(named) == {__version__}


def test_the_front_is_this_versions_image() -> None:
    """Cloud Run's service asks for the tag that the page says to build and push."""
    files = {str(one.path): one.text for one in render(load_profile("laptop"), TARGETS)}
    service = yaml.safe_load(files["cloud-run/service.yaml"])
    image = service["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.endswith(f"/api:{__version__}")
    page = (ROOT / "docs/runbooks/deploy.md").read_text()
    assert set(re.findall(r"/dreamseed/api:([\w.]+)", page)) == {__version__}
