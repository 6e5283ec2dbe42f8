"""The report in a real browser: headless Chromium, on a telephone's and on a desk's width, light and dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bench_results import sweep_result
from PIL import Image

from dreamseed_cli.bench.report.html import html_page
from dreamseed_cli.bench.report.scorecard import scorecard

_LOOKS = """<!doctype html><iframe id="page" src="report.html"
  style="width:%dpx;height:900px;border:0"></iframe>
<pre id="found"></pre><script>
document.getElementById("page").onload = () => {
  const frame = document.getElementById("page"), page = frame.contentDocument;
  const outside = text => {
    const own = text.getBoundingClientRect(), plot = text.ownerSVGElement.getBoundingClientRect();
    return own.left < plot.left - 1 || own.right > plot.right + 1 || own.top < plot.top - 1
      || own.bottom > plot.bottom + 1;
  };
  const labels = [...page.querySelectorAll("svg.plot text")];
  document.getElementById("found").textContent = JSON.stringify({
    title: page.title,
    plots: page.querySelectorAll("svg.plot").length,
    flat: [...page.querySelectorAll("svg.plot")].filter(one =>
 one.getBoundingClientRect().height < 40).length,
    width: page.documentElement.scrollWidth,
    labels: labels.length,
    clipped: labels.filter(outside).map(one => one.textContent),
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map(one => one.name),
  });
};
</script>"""
_PLOTS = 2 * (2 + 3 + 4 + 5 + 5)
"""Two suites of five cells: throughput, latency, distributions, balance and timeline."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a whole run."""
    folder = tmp_path_factory.mktemp("report")
    result = sweep_result()
    (folder / "report.html").write_text(html_page(result, scorecard(result)), encoding="utf-8")
    return folder


def chromium(folder: Path, *options: str, page: str) -> str:
    """What Chromium prints for a page; without Chromium the test fails (`make setup` installs it)."""
    binary = shutil.which("chromium")
    assert binary is not None, "Chromium is missing: run make setup, or apt-get install chromium"
    command = [binary, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    command += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'browser'}", *options]
    command.append((folder / page).as_uri())
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_its_width_loads_nothing_and_clips_no_label(folder: Path, width: int) -> None:
    """Every plot is drawn, no label leaves its plot, nothing is wider than the window, nothing is fetched."""
    (folder / "looks.html").write_text(_LOOKS % width, encoding="utf-8")
    dom = chromium(
        folder, "--dump-dom", "--virtual-time-budget=10000", "--window-size=1400,1000", page="looks.html"
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    looks: dict[str, Any] = json.loads(html.unescape(found[1]))
    assert looks["title"] == "dreamseed bench: Qwen/Qwen2.5-7B-Instruct on 3 x emulated RTX 5090 on 2 cores"
    assert looks["plots"] == _PLOTS
    assert looks["flat"] == 0
    assert looks["width"] <= width
    assert looks["labels"] > 10 * _PLOTS
    assert looks["clipped"] == []
    assert looks["loaded"] == []


def test_the_page_is_light_or_dark_as_the_reader_likes(folder: Path) -> None:
    """The same file shows a light page to one reader and a dark one to another."""
    shades = {}
    for name, scheme in (("dark", 0), ("light", 1)):
        picture = folder / f"{name}.png"
        chromium(
            folder,
            f"--screenshot={picture}",
            "--window-size=800,600",
            f"--blink-settings=preferredColorScheme={scheme}",
            page="report.html",
        )
        with Image.open(picture) as image:
            shades[name] = image.convert("L").getpixel((2, 2))
    assert shades == {"dark": pytest.approx(28, abs=8), "light": 255}
