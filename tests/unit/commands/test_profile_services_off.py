"""`dreamseed profile check` says what a profile does without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamseed_cli.app import main

_PROFILE = """
name = "mine"
description = "d"
[engine]
kind = "remote"
urls = ["http://127.0.0.1:1"]
model = "m"
"""


def _check(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "check", str(path), *options])
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("off", "named"),
    [
        ((), {}),
        (("redis",), {"redis": "every request is generated"}),
        (("kafka",), {"kafka": "no events are kept"}),
        (("postgres",), {"postgres": "there are no accounts", "kafka": "no events are kept"}),
    ],
)
def test_each_service_that_is_off_is_told_with_what_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], off: tuple[str, ...], named: dict[str, str]
) -> None:
    """One line each, for people and as data; none where nothing is off."""
    profile = tmp_path / "mine.toml"
    profile.write_text(_PROFILE + "".join(f'[services.{name}]\nmode = "off"\n' for name in off))
    told = json.loads(_check(profile, capsys, "--json"))["data"]["off"]
    assert told.keys() == named.keys()
    assert all(loss in told[name] for name, loss in named.items())
    words = " ".join(_check(profile, capsys).split())
    for name, means in told.items():
        assert f"{name} is off: {means}." in words
    assert words.count(" is off:") == len(named)
