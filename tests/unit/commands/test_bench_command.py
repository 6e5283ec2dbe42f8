"""`dreamseed bench` where its report cannot be written, or there is none to read."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_results import sweep_result

from dreamseed_cli.app import main
from dreamseed_cli.bench.record_run import Run
from dreamseed_cli.bench.report import files
from dreamseed_cli.core.errors import FailedError, UsageError


def test_figures_that_cannot_be_written_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A disk that filled up during the run: the error stands, and so does what was measured."""

    def full(*_: object) -> None:
        raise FailedError("cannot be written: no space left on device", place=str(tmp_path))

    monkeypatch.setattr(Run, "here", lambda *_: (sweep_result(), {}))
    monkeypatch.setattr(files, "write_report", full)
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--out", str(tmp_path / "out"), "--state-dir", str(tmp_path)])
    assert ended.value.code == FailedError.exit_code
    shown = capsys.readouterr().err
    assert "no space left on device" in shown
    assert sweep_result().suites[0].headline[:30] in shown


def test_a_report_that_there_is_not_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As every other file that is named and not there."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", "compare", str(tmp_path / "a"), str(tmp_path / "b")])
    assert ended.value.code == UsageError.exit_code
    assert "Name a result.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--duration", "inf"), ("--duration", "1e300"), ("--seed", str(2**64)), ("--usd-per-kwh", "inf")],
)
def test_a_number_without_bounds_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str, value: str
) -> None:
    """A load that never ends, or a seed that no message can carry, is wrong usage and no bug of ours."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", option, value, "--target", "http://127.0.0.1:1", "--state-dir", str(tmp_path)])
    assert ended.value.code == UsageError.exit_code
    assert f"Invalid value for '{option}'" in capsys.readouterr().err
