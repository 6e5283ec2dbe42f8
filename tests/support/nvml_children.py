"""The readers of the cards that this process has started, among all other children of a test run."""

from __future__ import annotations

import psutil


def nvml_children() -> list[psutil.Process]:
    """Living children that read the cards; never a server that other tests share."""
    return [child for child in psutil.Process().children() if _reads(child)]


def _reads(child: psutil.Process) -> bool:
    try:
        return "nvml_child" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one, too
        return False
