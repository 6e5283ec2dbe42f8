"""Keys: files that only their owner reads, passphrases, and nothing that shows a private key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dreamseed_cli.backup.keys import (
    PASSPHRASE_VARIABLE,
    Identity,
    KeyExposed,
    NewKeys,
    NoKey,
    WrongKey,
    parse_recipients,
    read_identities,
    read_passphrase,
    read_recipients,
    write_identity,
    write_locked_identity,
    write_recipients,
)
from dreamseed_cli.core.errors import UsageError

PASSPHRASE = "correct horse battery"


def quickly_locked(text: bytes, passphrase: str) -> bytes:
    """age's passphrase format written by hand with scrypt's factor at 2^10: pyrage's takes 1.5 s."""

    def plain64(data: bytes) -> bytes:
        return base64.b64encode(data).rstrip(b"=")

    def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
        return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)

    salt, nonce, file_key = os.urandom(16), os.urandom(16), os.urandom(16)
    wrap_key = hashlib.scrypt(
        passphrase.encode(), salt=b"age-encryption.org/v1/scrypt" + salt, n=1 << 10, r=8, p=1, dklen=32
    )
    body = plain64(ChaCha20Poly1305(wrap_key).encrypt(bytes(12), file_key, None))
    header = b"age-encryption.org/v1\n-> scrypt " + plain64(salt) + b" 10\n" + body + b"\n---"
    mac = hmac.digest(derive(file_key, b"", b"header"), header, "sha256")
    payload = ChaCha20Poly1305(derive(file_key, nonce, b"payload")).encrypt(bytes(11) + b"\x01", text, None)
    return header + b" " + plain64(mac) + b"\n" + nonce + payload


def private(path: Path, data: bytes) -> Path:
    """A file that only its owner can read."""
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_a_key_file_round_trips_and_is_its_owners_alone(tmp_path: Path) -> None:
    """The file has mode 0600 whatever the umask, and gives the same key back."""
    path, identity = tmp_path / "key", Identity.create()
    before = os.umask(0)
    try:
        write_identity(path, identity)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [key.reveal() for key in read_identities(path)] == [identity.reveal()]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """Backups that need the old key would be lost."""
    path = tmp_path / "key"
    write_identity(path, Identity.create())
    before = path.read_bytes()
    with pytest.raises(UsageError, match="a key already"):
        write_identity(path, Identity.create())
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    """Group or others with any right: refused, and the remedy is the command."""
    path = tmp_path / "key"
    write_identity(path, Identity.create())
    path.chmod(mode)
    with pytest.raises(KeyExposed, match=f"mode {mode:04o}") as caught:
        read_identities(path)
    assert caught.value.remedy.startswith(f"chmod 600 {path}")


def test_no_private_key_shows_in_a_repr() -> None:
    """Neither of the keys' own texts is in what a log or a traceback prints."""
    keys = NewKeys.create()
    shown = repr(keys) + str(keys)
    assert "AGE-SECRET-KEY" not in shown
    assert keys.daily.recipient in shown
    assert keys.daily.recipient != keys.recovery.recipient


def test_malformed_keys_are_named_without_being_repeated(tmp_path: Path) -> None:
    """The text of a mistyped private key stays out of the message."""
    path = private(tmp_path / "key", b"AGE-SECRET-KEY-1MISTYPED\n")
    with pytest.raises(UsageError, match="not an age identity") as caught:
        read_identities(path)
    assert "MISTYPED" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"# only a comment\n"])
def test_a_file_without_a_key_is_no_key(tmp_path: Path, content: bytes) -> None:
    """An empty key file is missing a key (exit code 3), not wrong usage."""
    with pytest.raises(NoKey):
        read_identities(private(tmp_path / "key", content))
    with pytest.raises(NoKey):
        read_recipients(private(tmp_path / "public", content))


def test_files_that_are_not_there_are_no_key(tmp_path: Path) -> None:
    """The message says how to make them."""
    with pytest.raises(NoKey, match="backup init"):
        read_identities(tmp_path / "none")
    with pytest.raises(NoKey, match="backup init"):
        read_recipients(tmp_path / "none")


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"no key\n"])
def test_files_that_hold_something_else_are_refused(tmp_path: Path, content: bytes) -> None:
    """Binary data and other text are named as no key."""
    with pytest.raises(UsageError):
        read_identities(private(tmp_path / "key", content))
    with pytest.raises(UsageError):
        read_recipients(private(tmp_path / "public", content))


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    """A folder in a file's place is an error of its own, not a traceback."""
    with pytest.raises(UsageError):
        read_identities(tmp_path)
    with pytest.raises(UsageError):
        read_recipients(tmp_path)


def test_keys_cannot_be_written_where_there_is_no_folder(tmp_path: Path) -> None:
    """The cause is the system's."""
    with pytest.raises(UsageError, match="No such file"):
        write_identity(tmp_path / "none" / "key", Identity.create())


def test_recipients_round_trip(tmp_path: Path) -> None:
    """The daily and the recovery key's public halves; anybody may read them."""
    keys, path = NewKeys.create(), tmp_path / "recipients"
    write_recipients(path, keys.recipients)
    assert read_recipients(path) == list(keys.recipients)
    assert path.stat().st_mode & 0o777 == 0o644


def test_malformed_recipients_are_refused() -> None:
    """A backup is never encrypted to nobody, or to half a key."""
    with pytest.raises(UsageError, match="public key"):
        parse_recipients(["age1short"], place="recipients")
    with pytest.raises(NoKey):
        parse_recipients([], place="recipients")


def test_a_locked_key_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    """Wrong passphrase, none, and the right one: each has its own outcome."""
    identity = Identity.create()
    path = private(tmp_path / "key", quickly_locked(identity.reveal().encode(), PASSPHRASE))
    assert read_identities(path, PASSPHRASE)[0].recipient == identity.recipient
    with pytest.raises(WrongKey):
        read_identities(path, PASSPHRASE + "!")
    with pytest.raises(NoKey, match=PASSPHRASE_VARIABLE):
        read_identities(path)


def test_a_locked_key_is_written_locked(tmp_path: Path) -> None:
    """The private key does not stand in the file; scrypt's factor makes guessing dear."""
    path, identity = tmp_path / "key", Identity.create()
    write_locked_identity(path, identity, PASSPHRASE)
    data = path.read_bytes()
    assert identity.reveal().encode() not in data
    assert int(data.split(b"\n")[1].split()[-1]) >= 14
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    """Whoever has the store can try short ones."""
    with pytest.raises(UsageError, match="fewer than 12"):
        write_locked_identity(tmp_path / "key", Identity.create(), "short")
    assert not (tmp_path / "key").exists()


def test_a_passphrase_comes_from_a_private_file_or_the_environment(tmp_path: Path) -> None:
    """A file goes before the environment; without either there is none."""
    path = private(tmp_path / "passphrase", f"{PASSPHRASE}\n".encode())
    environment = {PASSPHRASE_VARIABLE: "from the environment"}
    assert read_passphrase(path, environment) == PASSPHRASE
    assert read_passphrase(None, environment) == "from the environment"
    assert read_passphrase(None, {}) is None
    path.chmod(0o644)
    with pytest.raises(KeyExposed):
        read_passphrase(path, {})
