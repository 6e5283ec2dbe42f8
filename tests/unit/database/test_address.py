"""Where PostgreSQL is said to be."""

from __future__ import annotations

import pytest

from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.database.address import resolve_dsn

_DSN = "postgresql://dreamseed@10.0.0.5/dreamseed"


def test_a_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds what must not stand in a file."""
    monkeypatch.setenv("DS_DSN", _DSN)
    assert resolve_dsn("host=/run dbname=x", "DS_DSN") == _DSN
    assert resolve_dsn("host=/run dbname=x", None) == "host=/run dbname=x"
    assert resolve_dsn(None, None) is None


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_without_a_value_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """With what to set it to."""
    if value is None:
        monkeypatch.delenv("DS_DSN", raising=False)
    else:
        monkeypatch.setenv("DS_DSN", value)
    with pytest.raises(MissingError, match=r"\$DS_DSN.*Set DS_DSN"):
        resolve_dsn(None, "DS_DSN")


@pytest.mark.parametrize(
    "dsn", ["hunter2", "postgres:hunter2@host", "host=x hunter2", "postgresql://u:hun%zzter2@h"]
)
def test_what_is_no_connection_string_is_not_repeated(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    """It may be a password in the wrong place."""
    monkeypatch.setenv("DS_DSN", dsn)
    with pytest.raises(UsageError, match=r"\$DS_DSN") as refused:
        resolve_dsn(None, "DS_DSN")
    assert "hun" not in str(refused.value)
    assert refused.value.__suppress_context__
