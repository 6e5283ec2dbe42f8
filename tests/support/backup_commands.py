"""The program's own commands, run in this process through `main`, with keys and a store of a test's own."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dreamseed_cli.app import main

DSN_ENV = "BACKUP_TEST_DSN"


def command(
    home: Path, *words: str, dsn: str | None = None, environment: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Exit code, and the data, or the errors if there is none. dsn: of the database that is meant."""
    added = {"DREAMSEED_BACKUP_DIR": str(home), **(environment or {})}
    if dsn is not None:
        added[DSN_ENV] = dsn
        words = (*words, "--dsn-env", DSN_ENV)
    said = io.StringIO()
    code = 0
    with patch.dict(os.environ, added), redirect_stdout(said):
        try:
            main([*words, "--json"])
        except SystemExit as ended:
            code = int(ended.code or 0)
    answer = json.loads(said.getvalue())
    return code, answer["errors"] if answer["data"] is None else answer["data"]


def done(home: Path, *words: str, dsn: str | None = None) -> Any:
    """The data of a command that must succeed."""
    code, data = command(home, *words, dsn=dsn)
    assert code == 0, (words, code, data)
    return data
