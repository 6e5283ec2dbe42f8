"""The folder of certificates, keys and service tokens: written whole or not at all, never over another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.gateway.security.authority import Issued, issue_client, issue_server, make_authority
from dreamseed_cli.gateway.security.pem import (
    parse_certificates,
    parse_key,
    read_file,
    read_secret,
    require_pair,
)
from dreamseed_cli.gateway.security.tokens import load_digests, new_token

_SECRET, _PUBLIC = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class Pair:
    """Where a certificate and its key are."""

    certificate: Path
    key: Path

    @property
    def begun(self) -> bool:
        """Whether one of the two is there."""
        return self.certificate.exists() or self.key.exists()

    def load(self) -> Issued:
        """The pair, to sign with. Errors as require_fit(), and UsageError for a key of another kind."""
        certificate, key = self._read()
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UsageError(
                "this key is on no elliptic curve: the authority was made by another tool",
                place=str(self.key),
                remedy="Sign with that tool, or begin a new authority in another folder (--dir).",
            )
        return Issued(certificate, key)

    def require_fit(self) -> None:
        """UsageError if certificate and key do not fit together, MissingError if one is not there."""
        self._read()

    def _read(self) -> tuple[x509.Certificate, PrivateKeyTypes]:
        certificate = parse_certificates(read_file(self.certificate), self.certificate)[0]
        key = parse_key(read_secret(self.key), self.key)
        require_pair(certificate, key, self.key)
        return certificate, key


@dataclass(frozen=True, slots=True)
class CertificateFolder:
    """`ca`, `server` and `client-NAME`, each as `.crt` and `.key`, and the file `service-tokens`."""

    root: Path

    @classmethod
    def locate(cls, override: Path | None = None) -> CertificateFolder:
        """`--dir`, else $DREAMSEED_CERTS_DIR, else `certs` in the user's configuration folder (XDG)."""
        chosen = override or os.environ.get("DREAMSEED_CERTS_DIR")
        root = Path(chosen) if chosen else platformdirs.user_config_path("dreamseed") / "certs"
        return cls(root.expanduser().absolute())

    @property
    def authority(self) -> Pair:
        return self._pair("ca")

    @property
    def server(self) -> Pair:
        return self._pair("server")

    @property
    def tokens(self) -> Path:
        return self.root / "service-tokens"

    def client(self, name: str) -> Pair:
        return self._pair(f"client-{name}")

    def certificates(self) -> list[Path]:
        """Every certificate's file: the authority's, the server's, then the clients' by name."""
        own = (self.authority.certificate, self.server.certificate)
        return [*(path for path in own if path.exists()), *self.clients()]

    def clients(self) -> list[Path]:
        """The callers' certificates, by name."""
        return sorted(self.root.glob("client-*.crt"))

    def create(
        self, names: Sequence[str], clients: Sequence[str], now: datetime, days: int, *, renew: bool
    ) -> list[Path]:
        """Certificates for the server (if `names` has any, or in a renewal without clients) and for clients.

        Nothing is written unless all of it can be made. A renewal without `names` keeps the server's. Gives
        the files of the certificates made. UsageError if one exists and `renew` is not set, or a name is
        wrong; MissingError if the authority's key is kept elsewhere.
        """
        authority, authority_is_new = self._open_authority(now)
        made: list[tuple[Pair, Issued]] = [(self.authority, authority)] if authority_is_new else []
        if names or not clients:
            self._require_free(self.server, renew=renew)
            named = names or server_names(self.server.certificate)
            made.append((self.server, issue_server(authority, named, now, days)))
        for name in clients:
            self._require_free(self.client(name), renew=renew)
            made.append((self.client(name), issue_client(authority, name, now, days)))
        self._make_root()
        for pair, issued in made:
            self._write(pair, issued)
        return [pair.certificate for pair, _ in made]

    def _open_authority(self, now: datetime) -> tuple[Issued, bool]:
        """The authority, and whether it was made just now."""
        if not self.authority.begun:
            return make_authority(now), True
        for file in (self.authority.certificate, self.authority.key):
            if not file.exists():
                raise MissingError(
                    "the authority needs this file to sign, and only the other of the two is here",
                    place=str(file),
                    remedy="Bring it back for a moment, or begin a new authority in another folder (--dir).",
                )
        return self.authority.load(), False

    def add_token(self, label: str, now: datetime) -> Path:
        """A new service token as the last line of the tokens' file; it stands nowhere else."""
        known = b""
        if self.tokens.exists():
            load_digests(self.tokens)
            known = read_secret(self.tokens)
        self._make_root()
        lines = f"# {label}, {now:%Y-%m-%d}\n{new_token()}\n".encode()
        separator = b"" if known.endswith(b"\n") or not known else b"\n"
        write_atomically(self.tokens, known + separator + lines, mode=_SECRET)
        return self.tokens

    def _pair(self, stem: str) -> Pair:
        return Pair(self.root / f"{stem}.crt", self.root / f"{stem}.key")

    def _require_free(self, pair: Pair, *, renew: bool) -> None:
        if pair.begun and not renew:
            raise UsageError(
                "this certificate exists already",
                place=str(pair.certificate),
                remedy="Replace it with --renew: a running gateway takes the new one by itself.",
            )

    def _write(self, pair: Pair, issued: Issued) -> None:
        """The key first: a gateway that looks in between finds a pair that does not fit, and waits."""
        write_atomically(pair.key, issued.key_pem(), mode=_SECRET)
        write_atomically(pair.certificate, issued.certificate_pem(), mode=_PUBLIC)

    def _make_root(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)


def server_names(certificate: Path) -> list[str]:
    """The DNS names and IP addresses in a certificate's file; MissingError if there is none."""
    return alternative_names(parse_certificates(read_file(certificate), certificate)[0])


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names and IP addresses that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *found.get_values_for_type(x509.DNSName),
        *(str(address) for address in found.get_values_for_type(x509.IPAddress)),
    ]
