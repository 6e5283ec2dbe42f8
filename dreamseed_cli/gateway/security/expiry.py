"""What each certificate of a folder is, and how long it is good for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.gateway.security.folder import CertificateFolder, Pair, alternative_names
from dreamseed_cli.gateway.security.pem import WARN_DAYS, parse_certificates, read_file


class Condition(StrEnum):
    """How a certificate stands; only GOOD and KEY_ELSEWHERE need nothing done."""

    GOOD = "good"
    KEY_ELSEWHERE = "key elsewhere"
    DUE = "due for renewal"
    EXPIRED = "expired"
    BROKEN = "broken"

    @property
    def alarming(self) -> bool:
        return self not in {Condition.GOOD, Condition.KEY_ELSEWHERE}


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate's file. days_left: whole days, negative once expired; None if it cannot be read.

    problem: what is wrong with a broken one.
    """

    file: Path
    kind: str
    names: tuple[str, ...]
    issuer: str
    not_after: datetime | None
    days_left: int | None
    condition: Condition
    problem: str = ""

    def to_data(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "kind": self.kind,
            "names": list(self.names),
            "issuer": self.issuer,
            "not_after": self.not_after and self.not_after.isoformat(),
            "days_left": self.days_left,
            "condition": self.condition.value,
            "problem": self.problem,
        }


def survey(folder: CertificateFolder, now: datetime) -> list[Entry]:
    """Every certificate in the folder; one that cannot be read is an entry, not an error."""
    return [_entry(file, now) for file in folder.certificates()]


def _entry(file: Path, now: datetime) -> Entry:
    try:
        certificate = parse_certificates(read_file(file), file)[0]
        condition, problem = _condition(file, certificate, now)
    except DreamseedError as error:
        return Entry(file, "unknown", (), "", None, None, Condition.BROKEN, error.cause)
    not_after = certificate.not_valid_after_utc
    return Entry(
        file=file,
        kind=_kind(certificate),
        names=tuple(alternative_names(certificate)) or (_common_name(certificate.subject),),
        issuer=_common_name(certificate.issuer),
        not_after=not_after,
        days_left=(not_after - now) // timedelta(days=1),
        condition=condition,
        problem=problem,
    )


def _condition(file: Path, certificate: x509.Certificate, now: datetime) -> tuple[Condition, str]:
    left = certificate.not_valid_after_utc - now
    if left <= timedelta(0):
        return Condition.EXPIRED, ""
    key = file.with_suffix(".key")
    if key.exists():
        try:
            Pair(file, key).require_fit()
        except DreamseedError as error:
            return Condition.BROKEN, f"{error.cause} ({key.name})"
    elif _kind(certificate) == "server":
        return Condition.BROKEN, f"{key.name} is not there"
    if left < timedelta(days=WARN_DAYS):
        return Condition.DUE, ""
    return (Condition.GOOD if key.exists() else Condition.KEY_ELSEWHERE), ""


def _kind(certificate: x509.Certificate) -> str:
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            return "authority"
        if isinstance(value, x509.ExtendedKeyUsage):
            return "server" if ExtendedKeyUsageOID.SERVER_AUTH in value else "client"
    return "certificate"


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
