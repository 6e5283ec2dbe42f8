"""Headless Chromium, as tests look at pages with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


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
