"""Panels with a legend and a title, as every report's page shows them, and the sizes they are drawn at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

PANEL = (4.7, 2.9)
"""Inches at 72 px: drawn at this size on a telephone, and two or three beside each other on a desk."""
PAIR = (5.6, 3.1)
"""A panel that has half the page."""


@dataclass(frozen=True)
class Key:
    """An entry of a legend, which the page draws: a colour's CSS variable, a style and words."""

    colour: str
    label: str
    style: str = "line"


@dataclass(frozen=True)
class Plots:
    """Panels that share a legend, below one title."""

    title: str
    note: str
    panels: Sequence[Markup]
    keys: Sequence[Key] = ()
    names: Sequence[str] = ()
    """Of the panels, where the page writes them above each."""
