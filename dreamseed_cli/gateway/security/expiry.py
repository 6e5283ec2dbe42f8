"""What each certificate is that a folder holds or the gateway serves with, and how long it is good for."""

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
from dreamseed_cli.profile.schema import Tls


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
    """One certificate's file. not_after: when the first in it ends. days_left: whole days until then,
    negative once expired; None if it cannot be read. problem: what is wrong with a broken one.
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
    return [_entry(file, file.with_suffix(".key"), now) for file in folder.certificates()]


def survey_served(tls: Tls, now: datetime) -> list[Entry]:
    """The gateway's chain and its callers' authority, whose key it does without, wherever they lie."""
    served = [_entry(_path(tls.certificate), _path(tls.key), now)]
    return served if tls.client_ca is None else [*served, _entry(_path(tls.client_ca), None, now)]


def _path(name: str) -> Path:
    return Path(name).expanduser().absolute()


def _entry(file: Path, key: Path | None, now: datetime) -> Entry:
    try:
        chain = parse_certificates(read_file(file), file)
        certificate, not_after = chain[0], min(one.not_valid_after_utc for one in chain)
        condition, problem = _condition(Pair(file, key) if key else None, certificate, not_after - now)
    except DreamseedError as error:
        return Entry(file, "unknown", (), "", None, None, Condition.BROKEN, error.cause)
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


def _condition(pair: Pair | None, certificate: x509.Certificate, left: timedelta) -> tuple[Condition, str]:
    if left <= timedelta(0):
        return Condition.EXPIRED, ""
    has_key = pair is not None and pair.key.exists()
    if pair is not None and has_key:
        try:
            pair.require_fit()
        except DreamseedError as error:
            return Condition.BROKEN, f"{error.cause} ({pair.key.name})"
    elif pair is not None and _kind(certificate) == "server":
        return Condition.BROKEN, f"{pair.key.name} is not there"
    if left < timedelta(days=WARN_DAYS):
        return Condition.DUE, ""
    return (Condition.GOOD if has_key else Condition.KEY_ELSEWHERE), ""


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
