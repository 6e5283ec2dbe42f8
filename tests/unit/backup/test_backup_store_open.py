"""Addresses of stores and the keys that they need from the environment."""

import pytest

from dreamseed_cli.backup.store.open import open_store
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
