"""Matplotlib figures as SVG inside a page: colours from the page's CSS variables, text as text, small."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

INK, MUTED, GRID, BAD, BAND = "#010101", "#010102", "#010103", "#010104", "#010105"
"""Sentinels: matplotlib draws with them, the page's style says what they look like."""
SERIES = tuple(f"#0102{number:02x}" for number in range(1, 9))
"""Eight colours that differ."""
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    BAD: "--bad",
    BAND: "--band",
    **{colour: f"--s{number}" for number, colour in enumerate(SERIES, 1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dreamseed",
    "text.parse_math": False,  # a model's or a server's name is no formula
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "path.simplify_threshold": 0.3,
}
_COLOUR = re.compile("|".join(VARIABLES))
_FAMILY = re.compile(r"font-family:[^;]*|(?<=px) 'DejaVu Sans'[^;]*")
_NO_TURN = re.compile(r"^rotate\(-?0 [^)]*\)$")
_LONG_NUMBER = re.compile(r"(\d+\.\d{2})\d+")
_LONGER_NUMBER = re.compile(r"(\d+\.\d)\d+")
_LONG_PATH = 400
"""Characters; shorter ones are markers, of which a tenth of a pixel is seen."""
_REFERENCE = re.compile(r"(url\(#|^#)")


@contextmanager
def drawing() -> Iterator[None]:
    """Where figures are made and turned to SVG: the report's style, nobody else's settings changed."""
    # A letter that DejaVu Sans lacks is drawn by the reader's own font: only its width was guessed.
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield


def inline_svg(figure: Figure, *, name: str, title: str, description: str) -> Markup:
    """The figure as an `<svg>` element.

    name: unique in its page. title, description: for people who cannot see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ET.fromstring(buffer.getvalue())  # noqa: S314
    _drop(root, "metadata", "style")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        _rewrite(element, name)
    _drop_unused_ids(root)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"class": "plot", "role": "img", "aria-labelledby": f"{name}-title {name}-text"}
    for place, (tag, ending, text) in enumerate((("title", "title", title), ("desc", "text", description))):
        element = ET.Element(tag, {"id": f"{name}-{ending}"})
        element.text = text
        root.insert(place, element)
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - ElementTree has escaped every text


def _rewrite(element: ET.Element, name: str) -> None:
    """Names unique in the page, colours as variables, the page's font, no digits that nobody sees."""
    for key in list(element.attrib):
        value = element.attrib.pop(key)
        key = key.rpartition("}")[2]  # noqa: PLW2901 - xlink:href is href by now
        if key == "id":
            value = f"{name}-{value}"
        elif key == "href" or "url(#" in value:
            value = _REFERENCE.sub(rf"\g<1>{name}-", value)
        elif key in {"d", "x", "y", "transform", "style", "width", "height"}:
            long = key == "d" and len(value) > _LONG_PATH
            value = (_LONGER_NUMBER if long else _LONG_NUMBER).sub(r"\1", value)
        if key == "style":
            value = _COLOUR.sub(lambda found: f"var({VARIABLES[found[0]]})", value)
            value = _FAMILY.sub("", value)
        if not (key == "transform" and _NO_TURN.match(value)):
            element.attrib[key] = " ".join(value.split()) if key == "d" else value
    element.tail = None
    element.text = element.text if element.tag == "text" else None


def _drop(root: ET.Element, *tags: str) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in tags:
                parent.remove(child)


def _drop_unused_ids(root: ET.Element) -> None:
    text = " ".join(value for one in root.iter() for key, value in one.attrib.items() if key != "id")
    used = set(re.findall(r"#([\w-]+)", text))
    for element in root.iter():
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)
