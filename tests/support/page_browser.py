"""A report's page in a real browser, headless Chromium: how it looks on any width, light and dark."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from chromium import chromium
from PIL import Image

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
    wide: [...page.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth).length,
    labels: labels.length,
    clipped: labels.filter(outside).map(one => one.textContent),
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map(one => one.name),
  });
};
</script>"""


def looks(folder: Path, width: int) -> dict[str, Any]:
    """What `report.html` in the folder looks like in a window of so many pixels.

    `title`, `plots`, `flat` ones, the page's `width`, how many parts are too `wide` for it, `labels` of
    plots, those `clipped`, what it `loaded`.
    """
    (folder / "looks.html").write_text(_LOOKS % width, encoding="utf-8")
    dom = chromium(
        folder, "--dump-dom", "--virtual-time-budget=10000", "--window-size=1400,1000", page="looks.html"
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    told: dict[str, Any] = json.loads(html.unescape(found[1]))
    return told


def shades(folder: Path) -> dict[str, int]:
    """How bright the page is in its corner, 0 to 255: for a reader who likes it `dark`, and `light`."""
    found = {}
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
            found[name] = int(image.convert("L").getpixel((2, 2)))  # type: ignore[arg-type]
    return found
