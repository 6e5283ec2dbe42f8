"""Keys: who can read backups. The host that makes them needs public keys only.

A private key (age's X25519 identity) lies in a file of age's own format with mode 0600, or in one that a
passphrase locks. Each backup is encrypted to two: the daily key, and the recovery key, which is printed once
and kept on paper. pyrage shows a private key in its repr, so identities stay wrapped here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyrage

from dreamseed_cli.core.errors import MissingError, UsageError

PASSPHRASE_VARIABLE: Final = "DREAMSEED_BACKUP_PASSPHRASE"  # noqa: S105 (a name)
SHORTEST_PASSPHRASE: Final = 12
"""Characters. Whoever has the store can try passphrases at leisure; scrypt makes each try cost a second."""

_FOR_OTHERS: Final = 0o077
_LARGEST_FILE: Final = 1 << 20
_LOCKED: Final = b"age-encryption.org/"


class NoKey(MissingError):
    """There is no key where one was looked for."""

    kind = "no_key"


class WrongKey(MissingError):
    """The key or the passphrase is another than the one this was encrypted with."""

    kind = "wrong_key"


class KeyExposed(UsageError):
    """Others on this host can read the key."""

    kind = "key_exposed"


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key, which prints as its public one."""

    key: pyrage.x25519.Identity = field(repr=False)
    recipient: str

    @classmethod
    def create(cls) -> Identity:
        """A new key from the system's randomness."""
        return cls._of(pyrage.x25519.Identity.generate())

    @classmethod
    def parse(cls, text: str, *, place: str) -> Identity:
        """A key as `AGE-SECRET-KEY-1...`; UsageError, which never repeats the text, if it is none."""
        try:
            return cls._of(pyrage.x25519.Identity.from_str(text.strip()))
        except pyrage.IdentityError as error:
            raise UsageError(
                "not an age identity (AGE-SECRET-KEY-1...)",
                place=place,
                remedy="Give the file that dreamseed backup init wrote, or the printed recovery key.",
            ) from error

    @classmethod
    def _of(cls, key: pyrage.x25519.Identity) -> Identity:
        return cls(key, str(key.to_public()))

    def reveal(self) -> str:
        """The private key as text: for its own file, and to print a recovery key once."""
        return str(self.key)


@dataclass(frozen=True, slots=True)
class NewKeys:
    """What `dreamseed backup init` makes. The recovery key's private half is kept nowhere."""

    daily: Identity
    recovery: Identity

    @classmethod
    def create(cls) -> NewKeys:
        return cls(Identity.create(), Identity.create())

    @property
    def recipients(self) -> tuple[str, str]:
        return self.daily.recipient, self.recovery.recipient


def parse_recipients(texts: Sequence[str], *, place: str) -> list[pyrage.x25519.Recipient]:
    """Public keys, ready to encrypt to. NoKey if there are none, UsageError if one is malformed."""
    if not texts:
        raise NoKey("no public key to encrypt to", place=place, remedy="Run dreamseed backup init.")
    try:
        return [pyrage.x25519.Recipient.from_str(text) for text in texts]
    except pyrage.RecipientError as error:
        raise UsageError("not an age public key (age1...)", place=place, remedy="Mend the file.") from error


def write_identity(path: Path, identity: Identity) -> None:
    """A new key file, readable by its owner only. UsageError if there is one: keys are never overwritten."""
    _write_new(path, f"# public key: {identity.recipient}\n{identity.reveal()}\n".encode())


def write_locked_identity(path: Path, identity: Identity, passphrase: str) -> None:
    """A key file that only the passphrase opens; it may also be kept in the store. Takes about a second."""
    _check_passphrase(passphrase, place=str(path))
    _write_new(path, pyrage.passphrase.encrypt(f"{identity.reveal()}\n".encode(), passphrase))


def read_identities(path: Path, passphrase: str | None = None) -> list[Identity]:
    """The private keys in a file, as age reads it: one a line, `#` begins a comment.

    Raises NoKey (no such file, none in it, or a locked one and no passphrase), KeyExposed, WrongKey (the
    passphrase), UsageError (malformed).
    """
    data = _read_private(path)
    if data.startswith(_LOCKED):
        data = _unlock(data, passphrase, place=str(path))
    return [Identity.parse(line, place=str(path)) for line in _key_lines(data, path)]


def write_recipients(path: Path, recipients: Sequence[str]) -> None:
    """A new file of public keys: anybody may read it."""
    _write_new(path, "".join(f"{recipient}\n" for recipient in recipients).encode(), mode=0o644)


def read_recipients(path: Path) -> list[str]:
    """The public keys in a file, one a line. Raises NoKey, or UsageError if one is malformed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise _no_file(path) from error
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path)) from error
    recipients = _key_lines(data, path)
    parse_recipients(recipients, place=str(path))
    return recipients


def read_passphrase(path: Path | None, environment: Mapping[str, str]) -> str | None:
    """The passphrase: a file's first line, else $DREAMSEED_BACKUP_PASSPHRASE, else None.

    Raises NoKey, KeyExposed, or UsageError if it is shorter than 12 characters.
    """
    if path is None:
        passphrase = environment.get(PASSPHRASE_VARIABLE)
        place = f"${PASSPHRASE_VARIABLE}"
    else:
        passphrase = next(iter(_text(_read_private(path), path).splitlines()), "")
        place = str(path)
    if passphrase is not None:
        _check_passphrase(passphrase, place=place)
    return passphrase


def _check_passphrase(passphrase: str, *, place: str) -> None:
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise UsageError(
            f"the passphrase has fewer than {SHORTEST_PASSPHRASE} characters",
            place=place,
            remedy="Take several words.",
        )


def _unlock(data: bytes, passphrase: str | None, *, place: str) -> bytes:
    if passphrase is None:
        raise NoKey(
            "the key is locked with a passphrase, and none was given",
            place=place,
            remedy=f"Put it into a file of your own or into ${PASSPHRASE_VARIABLE}.",
        )
    try:
        return bytes(pyrage.passphrase.decrypt(data, passphrase))
    except pyrage.DecryptError as error:
        raise WrongKey(
            "the passphrase does not open this key (or the file is damaged)",
            place=place,
            remedy="Check the passphrase; the recovery key opens every backup without it.",
        ) from error


def _read_private(path: Path) -> bytes:
    """The bytes of a file that its owner alone may read, judged on the open file itself."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UsageError("not a file", place=str(path), remedy="Give a key file.")
            if status.st_mode & _FOR_OTHERS:
                raise KeyExposed(
                    f"others can read this key (mode {stat.S_IMODE(status.st_mode):04o})",
                    place=str(path),
                    remedy=f"chmod 600 {path}; if others were on this host, make new keys.",
                )
            return file.read(_LARGEST_FILE)
    except FileNotFoundError as error:
        raise _no_file(path) from error
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path)) from error


def _write_new(path: Path, data: bytes, mode: int = 0o600) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(path, flags, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise UsageError(
            "there is a key already",
            place=str(path),
            remedy="Backups made with it need it: choose another path, or move it away yourself.",
        ) from error
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", place=str(path)) from error


def _key_lines(data: bytes, path: Path) -> list[str]:
    lines = [line.strip() for line in _text(data, path).splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise NoKey("no key stands in this file", place=str(path), remedy="Run dreamseed backup init.")
    return keys


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError("not a text file", place=str(path), remedy="Give a key file.") from error


def _no_file(path: Path) -> NoKey:
    return NoKey(
        "there is no such file", place=str(path), remedy="Run dreamseed backup init, or give the key's path."
    )
