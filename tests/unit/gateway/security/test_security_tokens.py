"""Service tokens in their file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog
from gateway_harness import until

from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.gateway.security.tokens import SHORTEST, ServiceTokens, new_token

ONE, TWO = new_token(), new_token()


def _put(path: Path, text: str, mode: int = 0o600) -> Path:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(mode)
    return draft.replace(path)


def _remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two tokens with comments."""
    return _put(tmp_path / "tokens", f"# the front\n{ONE}\n\n  {TWO}  # the other\n")


def test_tokens_stand_one_a_line_with_comments(file: Path) -> None:
    """Blank lines and comments are none; a part of a token is none either."""
    tokens = ServiceTokens(file)
    assert tokens.knows(ONE)
    assert tokens.knows(TWO)
    for wrong in ("", "# the front", ONE[:-1], f"{ONE} ", new_token(), "ü"):
        assert not tokens.knows(wrong)


def test_a_new_token_is_long_random_and_no_api_key(tmp_path: Path) -> None:
    """What new_token gives, the file takes."""
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(len(token) >= SHORTEST and token.startswith("dss_") for token in made)
    assert ServiceTokens(_put(tmp_path / "t", "\n".join(made))).knows(made.pop())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no token"),
        ("# only a comment\n", "holds no token"),
        ("short\n", "no token of 32 characters"),
        (f"{ONE}\n{TWO} {TWO}\n", "no token of 32 characters"),
        (f"ds_{'x' * 40}\n", "user's API key"),
        (f"{ONE}ü\n", "ASCII"),
    ],
)
def test_a_wrong_file_is_refused_without_showing_a_token(tmp_path: Path, text: str, said: str) -> None:
    """Each mistake is named with its line; no message holds what the file holds."""
    path = _put(tmp_path / "tokens", text)
    with pytest.raises(UsageError, match=said) as caught:
        ServiceTokens(path)
    assert caught.value.place.startswith(str(path))
    for word in text.replace("#", " ").split():
        assert len(word) < 10 or word not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """With the command that closes it."""
    path = _put(tmp_path / "tokens", ONE, mode)
    with pytest.raises(UsageError, match="open to others") as caught:
        ServiceTokens(path)
    assert caught.value.remedy == f"Close it: chmod 600 {path}."


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Something is missing."""
    with pytest.raises(MissingError, match="No such file"):
        ServiceTokens(tmp_path / "none")


async def test_a_change_is_taken_and_a_mistake_keeps_what_was_known(file: Path) -> None:
    """A token added is known and one removed is not; a wrong file is logged once and changes nothing."""
    tokens = ServiceTokens(file)
    watching = asyncio.create_task(tokens.watch(0.005))
    added = new_token()
    _put(file, f"{TWO}\n{added}\n")
    await until(lambda: tokens.knows(added))
    assert not tokens.knows(ONE)
    assert tokens.knows(TWO)
    with structlog.testing.capture_logs() as logs:
        _put(file, "short\n")
        await until(lambda: logs)
        _remove(file)
        await until(lambda: len(logs) == 2)
        assert tokens.knows(added)
    assert {line["event"] for line in logs} == {"service tokens refused, the old ones stay"}
    _put(file, "# all revoked\n")
    await until(lambda: not tokens.knows(added))
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
