"""Tables in 80 columns, as over SSH at 3 a.m.: what one has to copy or compare stands there whole."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from manifests import ID, document
from rich.console import Console, RenderableType

from dreamseed_cli.app import main
from dreamseed_cli.backup.catalog import Catalog, Entry
from dreamseed_cli.backup.manifest import Level, Manifest, Proof
from dreamseed_cli.backup.view import catalog_view
from dreamseed_cli.chaos.story import Step
from dreamseed_cli.chaos.view import _why
from dreamseed_cli.commands.certs import certs_app
from dreamseed_cli.commands.events import _table
from dreamseed_cli.core.result import Result
from dreamseed_cli.gateway.events.tail import StoredEvent

_MOMENT = datetime(2026, 11, 30, 6, 16, 59, tzinfo=UTC)


def _lines(*parts: RenderableType) -> list[str]:
    console = Console(width=80, file=io.StringIO(), record=True)
    for part in parts:
        console.print(part)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    return lines


def test_backups_have_their_ids_dates_and_proofs_whole() -> None:
    """The id is what every other command is given."""
    manifest = Manifest.model_validate_json(json.dumps(document()))
    entry = Entry(manifest, Proof(level=Level.RESTORED, at=_MOMENT), pinned=True)
    text = "\n".join(_lines(*catalog_view(Catalog(backups=(entry,)), "local:/srv/store")))
    for whole in (ID, f"2025-11-10 03:00, {Level.RESTORED.value}", "pinned", "15.14"):
        assert whole in text


def test_events_have_their_moment_and_outcome_whole() -> None:
    """With how long they took, simulated or not."""
    told = {
        "outcome": "finished",
        "user_id": "ann",
        "arrived_at": _MOMENT.timestamp(),
        "priority": "standard",
        "workload": "question",
        "prompt_tokens": 1400,
        "completion_tokens": 178,
        "duration_s": 1.01,
        "simulated": True,
    }
    text = "\n".join(_lines(_table([StoredEvent(1, "e", json.dumps(told), _MOMENT, None)])))
    for whole in ("2026-11-30 06:16:59.000", "1.01 s (simulated)", "finished", "question", "1400+178"):
        assert whole in text


def test_certificates_have_their_files_and_names_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name cut in two is one nobody finds again."""
    monkeypatch.setenv("DREAMSEED_CERTS_DIR", str(tmp_path))
    words = ["create", "--name", "gpu.dreamseed.ai", "--client", "api-front"]
    shown = certs_app(args=words, standalone_mode=False)
    assert isinstance(shown, Result)
    text = "\n".join(_lines(shown.view[0]))
    for whole in ("client-api-front.crt", "gpu.dreamseed.ai", "authority", "server", "good"):
        assert whole in text


def test_a_fault_is_told_without_a_heading_to_nothing() -> None:
    """The engine's last lines stand in the incident, not in the table."""
    step = Step(0.1, "r0", "restarting", "killed", "was killed by signal 9; its last lines:\n  words")
    assert _why(step) == "killed: was killed by signal 9"


def test_a_missing_option_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With what there is to choose from."""
    with pytest.raises(SystemExit) as ended:
        main(["user", "add", "bob"])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Missing option '--tier'. Choose from: paid, free, background." in said
