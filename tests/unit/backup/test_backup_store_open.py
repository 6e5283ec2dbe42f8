"""Addresses of stores and the keys that they need from the environment."""

from pathlib import Path

import pytest

from dreamseed_cli.backup.store.open import HELD_VARIABLE, open_store
from dreamseed_cli.core.errors import MissingError, UsageError

KEYS = {
    "DREAMSEED_B2_KEY_ID": "daily-id",
    "DREAMSEED_B2_KEY": "hush",
    "DREAMSEED_S3_KEY_ID": "cold-id",
    "DREAMSEED_S3_KEY": "hush",
}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("b2:dreamseed-backups", "b2:dreamseed-backups"),
        ("b2:dreamseed-backups/", "b2:dreamseed-backups"),
        ("b2:dreamseed-backups/office/pg/", "b2:dreamseed-backups/office/pg"),
        ("s3:cold", "s3:cold"),
        ("s3:cold/a", "s3:cold/a"),
        ("local:/mnt/disk", "local:/mnt/disk"),
    ],
)
def test_addresses(url: str, name: str) -> None:
    """Each kind of store opens without a call to anywhere, and knows its name."""
    store = open_store(url, environment=KEYS)
    assert store.name == name
    store.close()


@pytest.mark.parametrize("url", ["", "local:", "b2:", "b2:/a", "b2:b/../c", "s3:a b", "ftp:x", "/mnt/disk"])
def test_no_addresses(url: str) -> None:
    """Anything else is wrong usage."""
    with pytest.raises(UsageError):
        open_store(url, environment=KEYS)


@pytest.mark.parametrize("missing", ["DREAMSEED_B2_KEY_ID", "DREAMSEED_B2_KEY"])
def test_a_missing_key_is_named(missing: str) -> None:
    """The variables to set are in the message, nothing secret is."""
    with pytest.raises(MissingError, match="DREAMSEED_B2_KEY_ID and DREAMSEED_B2_KEY") as caught:
        open_store("b2:dreamseed", environment={name: key for name, key in KEYS.items() if name != missing})
    assert "hush" not in str(caught.value)


def test_half_a_prune_key_is_an_error() -> None:
    """A prune key that is only half there is a mistake, and not replaced by the daily one."""
    with pytest.raises(MissingError, match="DREAMSEED_B2_PRUNE_KEY"):
        open_store("b2:dreamseed", task="prune", environment={**KEYS, "DREAMSEED_B2_PRUNE_KEY_ID": "x"})


def test_a_store_is_read_as_it_was_at_a_moment(tmp_path: Path) -> None:
    """What is not in the list is not there for who lists or looks; without the list nothing is guessed."""
    whole = open_store(f"local:{tmp_path / 'store'}", create=True, environment={})
    for name in ("wal/a", "wal/b"):
        whole.put(name, b"bytes")
    held = tmp_path / "held"
    held.write_text("wal/a\n", encoding="utf-8")
    then = open_store(whole.name, environment={HELD_VARIABLE: str(held)})
    assert [stored.name for stored in then.list("wal/")] == ["wal/a"]
    assert then.stat("wal/a") is not None
    assert then.stat("wal/b") is None
    assert whole.stat("wal/b") is not None
    held.unlink()
    with pytest.raises(MissingError, match="Unset DREAMSEED_STORE_HELD"):
        open_store(whole.name, environment={HELD_VARIABLE: str(held)})
