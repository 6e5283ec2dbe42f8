"""A private certificate authority and what it signs: ECDSA P-256, X.509 (RFC 5280). Pure but for chance."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dreamseed_cli.core.errors import UsageError

AUTHORITY_DAYS = 3650
LEAF_DAYS = 397
"""The longest that browsers and Apple's systems take (CA/Browser Forum, ballot SC-22)."""
LOCAL_NAMES = ("localhost", "127.0.0.1")
"""Every server certificate has them, so that the host itself can reach its own gateway."""

# A clock that is a little slow must not call a fresh certificate "not yet valid".
_BACKDATED = timedelta(hours=1)
_LONGEST_COMMON_NAME = 64
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?"
_HOST_NAME = re.compile(rf"(\*\.)?({_LABEL}\.)*{_LABEL}\.?")
_CLIENT_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """PKCS #8, without a passphrase: a service starts with nobody there to type one."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def make_authority(now: datetime, days: int = AUTHORITY_DAYS) -> Issued:
    """A new authority that may sign leaves only (path length 0); its name is unlike any other's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named(f"dreamseed private authority {secrets.token_hex(4)}")
    usage = _key_usage(signs_certificates=True)
    certificate = (
        _builder(name, name, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Issued(certificate, key)


def issue_server(authority: Issued, names: Sequence[str], now: datetime, days: int = LEAF_DAYS) -> Issued:
    """A server's certificate for DNS names and IP addresses, `LOCAL_NAMES` with them.

    UsageError if a name is neither, or the authority would expire before it.
    """
    every = list(dict.fromkeys([*names, *LOCAL_NAMES]))
    alternatives = x509.SubjectAlternativeName([alternative_name(name) for name in every])
    common = every[0] if len(every[0]) <= _LONGEST_COMMON_NAME else "dreamseed gateway"
    return _issue(authority, common, ExtendedKeyUsageOID.SERVER_AUTH, now, days, alternatives)


def issue_client(authority: Issued, name: str, now: datetime, days: int = LEAF_DAYS) -> Issued:
    """A caller's certificate; the name is for people. UsageError as with issue_server()."""
    if not _CLIENT_NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a client",
            place="--client",
            remedy="Use letters, digits, '.', '_' and '-', at most 64.",
        )
    return _issue(authority, name, ExtendedKeyUsageOID.CLIENT_AUTH, now, days, None)


def alternative_name(name: str) -> x509.GeneralName:
    """A host name or an IP address as it stands in a certificate; UsageError if it is neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        # Four numbers that are no address are a mistyped one: no host name ends in digits alone (RFC 1123).
        if not _HOST_NAME.fullmatch(name) or len(name) > 253 or name.rpartition(".")[2].isdigit():
            raise UsageError(
                f"'{name}' is neither a host name nor an IP address",
                place="--name",
                remedy="Give the name that clients connect to, without port or scheme: gpu.dreamseed.ai.",
            ) from None
        return x509.DNSName(name)


def _issue(
    authority: Issued,
    common_name: str,
    purpose: x509.ObjectIdentifier,
    now: datetime,
    days: int,
    alternatives: x509.SubjectAlternativeName | None,
) -> Issued:
    if now + timedelta(days=days) > authority.certificate.not_valid_after_utc:
        raise UsageError(
            f"the authority expires on {authority.certificate.not_valid_after_utc:%Y-%m-%d}, before that",
            place="--days",
            remedy="Ask for fewer days, or begin a new authority in another folder (--dir).",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    builder = (
        _builder(_named(common_name), issuer.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(_authority_key(issuer), critical=False)
    )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    return Issued(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
