"""Certificates, keys and tokens in files: read, and checked before anything relies on them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreamseed_cli.core.errors import MissingError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

WARN_DAYS = 14
"""A certificate with less than this left is due for renewal, in days."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_BUT_GROUP_READS = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO


def read_file(path: Path) -> bytes:
    """A file's bytes; MissingError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingError(
            f"cannot be read: {error.strerror}",
            place=str(path),
            remedy="Make certificates with: dreamseed certs create.",
        ) from error


def read_secret(path: Path) -> bytes:
    """A secret file's bytes. UsageError if it is open_to_others(), MissingError if it cannot be read."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if open_to_others(found.st_mode, owner=found.st_uid, user=os.geteuid()):
                raise UsageError(
                    f"holds a secret and is open to others (mode {stat.S_IMODE(found.st_mode):04o})",
                    place=str(path),
                    remedy=f"Close it: chmod 600 {path}.",
                )
            return file.read()
    except OSError as error:
        raise MissingError(f"cannot be read: {error.strerror}", place=str(path)) from error


def open_to_others(mode: int, *, owner: int, user: int) -> bool:
    """Whether a secret in a file of this mode is one no more; owner, user: of the file and this process.

    Only its owner may touch it; root's file may let the group of a service read it (PostgreSQL's rule).
    """
    return bool(mode & (_BUT_GROUP_READS if owner == 0 and user != 0 else _OTHERS))


def parse_certificates(pem: bytes, place: Path) -> Sequence[Certificate]:
    """The certificates in a PEM file, first to last; UsageError if there is none or one is broken."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(pem)
    except ValueError as error:
        raise UsageError(
            "holds no certificate, or a broken one", place=str(place), remedy="Give a PEM file."
        ) from error


def parse_key(pem: bytes, place: Path) -> PrivateKeyTypes:
    """The private key in a PEM file; UsageError if it is broken or behind a passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise UsageError(
            "the key is behind a passphrase, which nobody is there to type",
            place=str(place),
            remedy="Give it without one, in a file that only its owner may read.",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError("holds no private key, or a broken one", place=str(place)) from error


def require_pair(certificate: Certificate, key: PrivateKeyTypes, place: Path) -> None:
    """UsageError unless `key` is the certificate's own; place: the key's file."""
    if certificate.public_key() != key.public_key():
        raise UsageError(
            "the key is not this certificate's: they were made apart",
            place=str(place),
            remedy="Give the two that belong together; in a chain the server's own certificate comes first.",
        )
