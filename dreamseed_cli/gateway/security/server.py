"""The gateway's own certificate: checked at the start, and taken anew when its files change."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import Certificate, ExtendedKeyUsage, ExtensionNotFound
from cryptography.x509.oid import ExtendedKeyUsageOID

from dreamseed_cli.core.errors import DreamseedError, UsageError
from dreamseed_cli.gateway.security.pem import (
    WARN_DAYS,
    parse_certificates,
    parse_key,
    read_file,
    read_secret,
    require_pair,
)
from dreamseed_cli.gateway.security.watch import signature
from dreamseed_cli.profile.schema import Tls

_log = structlog.get_logger(__name__)
_RENEW = "Renew it: dreamseed certs create --renew."
_A_DAY_S = 86400.0
_SHORTEST_RSA = 2048


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a TLS server needs, proven to fit together. not_after: when its chain first expires (UTC)."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    not_after: datetime

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.client_ca)


class ServerCertificates:
    """The certificate of a listening gateway.

    Made from files that must be right (UsageError, MissingError). Later, at a new connection and at most once
    in `interval_s` seconds, it looks whether they changed: a right new pair serves from that connection on,
    a wrong one is logged and the old one stays. Connections that stand are not touched. Keep it while the
    server runs.
    """

    def __init__(self, tls: Tls, *, interval_s: float = 1.0) -> None:
        self._tls = tls
        self._paths = _paths(tls)
        self._interval_s = interval_s
        self._checked = time.monotonic()
        self._warned = -math.inf
        self._looking = threading.Lock()
        self._refused: str | None = None
        self._signature = signature(self._paths)
        self._bundle = load_bundle(tls)
        self._warn_if_ending()

    @property
    def not_after(self) -> datetime:
        """When the certificate that serves now expires (UTC)."""
        return self._bundle.not_after

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`. gRPC for Python asks for client certificates only where it demands them."""
        return grpc.dynamic_ssl_server_credentials(
            self._bundle.configuration(),
            self._fetch,  # type: ignore[arg-type] # its stub forgets None, which says "as before"
            self._tls.require_client_certificate,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """gRPC's question before every handshake, on a thread of its own; None: as before."""
        now = time.monotonic()
        if now - self._checked < self._interval_s or not self._looking.acquire(blocking=False):
            return None
        try:
            self._checked = now
            changed = self._reload()
            self._warn_if_ending()
            return self._bundle.configuration() if changed else None
        finally:
            self._looking.release()

    def _reload(self) -> bool:
        found = signature(self._paths)
        if found == self._signature:
            return False
        try:
            self._bundle = load_bundle(self._tls)
        except DreamseedError as error:
            # Half of a renewal looks the same as a mistake: ask again at the next connection, tell it once.
            if self._refused != str(error):
                self._refused = str(error)
                _log.error("new certificate refused, the old one stays", **error.to_data())
            return False
        self._signature, self._refused, self._warned = found, None, -math.inf
        _log.info("certificate reloaded", not_after=self._bundle.not_after.isoformat())
        return True

    def _warn_if_ending(self) -> None:
        """Once a day, when renewal is due."""
        left = self.not_after - datetime.now(UTC)
        if left < timedelta(days=WARN_DAYS) and time.monotonic() - self._warned > _A_DAY_S:
            self._warned = time.monotonic()
            _log.warning(
                "certificate expires soon",
                place=self._tls.certificate,
                days_left=left.days,
                not_after=self.not_after.isoformat(),
                remedy=_RENEW,
            )


def load_bundle(tls: Tls, now: datetime | None = None) -> Bundle:
    """Read and check the files; UsageError or MissingError for the first that would not serve."""
    try:
        return _load(tls, now or datetime.now(UTC))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"cannot be understood: {error}",
            place=tls.certificate,
            remedy="Make others: dreamseed certs create.",
        ) from error


def _load(tls: Tls, now: datetime) -> Bundle:
    certificate, key = _path(tls.certificate), _path(tls.key)
    chain = read_file(certificate)
    parsed = parse_certificates(chain, certificate)
    secret = read_secret(key)
    require_pair(parsed[0], parse_key(secret, key), key)
    _require_known_kind(parsed[0], certificate)
    _require_current(parsed, certificate, now)
    _require_server_purpose(parsed[0], certificate)
    client_ca = _read_client_ca(tls, now)
    return Bundle(chain, secret, client_ca, min(one.not_valid_after_utc for one in parsed))


def _read_client_ca(tls: Tls, now: datetime) -> bytes | None:
    if tls.client_ca is None:
        return None
    path = _path(tls.client_ca)
    pem = read_file(path)
    _require_current(parse_certificates(pem, path), path, now)
    return pem


def _require_current(chain: Sequence[Certificate], place: Path, now: datetime) -> None:
    for one in chain:
        if now >= one.not_valid_after_utc:
            raise UsageError(
                f"the certificate expired on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                place=str(place),
                remedy=_RENEW,
            )
        if now < one.not_valid_before_utc:
            raise UsageError(
                f"the certificate is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
                place=str(place),
                remedy="Set this host's clock, or wait.",
            )


def _require_known_kind(certificate: Certificate, place: Path) -> None:
    """gRPC's TLS takes other keys too, and then hangs up on every client without a word."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _SHORTEST_RSA:
        return
    raise UsageError(
        "gRPC cannot serve a certificate of this kind",
        place=str(place),
        remedy=f"Take ECDSA on P-256 or P-384, or RSA of {_SHORTEST_RSA} bits or more.",
    )


def _require_server_purpose(certificate: Certificate, place: Path) -> None:
    """A client's certificate here would be refused by every client, each with a riddle."""
    try:
        purposes = certificate.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes):
        raise UsageError(
            "this is no server's certificate",
            place=str(place),
            remedy="Name the server's: dreamseed certs show tells them apart.",
        )


def _paths(tls: Tls) -> list[Path]:
    named = (tls.certificate, tls.key, tls.client_ca)
    return [_path(name) for name in named if name is not None]


def _path(name: str) -> Path:
    return Path(name).expanduser()
