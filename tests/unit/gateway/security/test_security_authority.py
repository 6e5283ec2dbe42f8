"""What the private authority signs."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.gateway.security.authority import (
    LEAF_DAYS,
    LOCAL_NAMES,
    Issued,
    issue_client,
    issue_server,
    make_authority,
)
from dreamseed_cli.gateway.security.folder import alternative_names

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Issued:
    """One for all: keys take their time."""
    return make_authority(NOW)


def _verify(authority: Issued, issued: Issued, name: x509.GeneralName, at: datetime = NOW) -> None:
    builder = PolicyBuilder().store(Store([authority.certificate])).time(at)
    assert isinstance(name, x509.DNSName | x509.IPAddress)
    builder.build_server_verifier(name).verify(issued.certificate, [])


def test_a_server_certificate_is_good_for_its_names_and_the_hosts_own(authority: Issued) -> None:
    """By the web's own rules (RFC 5280 and the CA/Browser profile), and for no other name."""
    issued = issue_server(authority, ["gpu.dreamseed.ai", "100.64.1.2", "fd7a::1"], NOW)
    for name in ("gpu.dreamseed.ai", "localhost"):
        _verify(authority, issued, x509.DNSName(name))
    for address in ("100.64.1.2", "127.0.0.1", "fd7a::1"):
        _verify(authority, issued, x509.IPAddress(ipaddress.ip_address(address)))
    with pytest.raises(VerificationError):
        _verify(authority, issued, x509.DNSName("other.dreamseed.ai"))
    assert set(alternative_names(issued.certificate)) >= set(LOCAL_NAMES)


def test_it_ends_after_397_days_and_a_slow_clock_takes_it_at_once(authority: Issued) -> None:
    """Half an hour ago it was valid already; a second after its end it is not."""
    issued = issue_server(authority, ["gpu.dreamseed.ai"], NOW)
    name = x509.DNSName("gpu.dreamseed.ai")
    _verify(authority, issued, name, NOW - timedelta(minutes=30))
    _verify(authority, issued, name, NOW + timedelta(days=LEAF_DAYS))
    with pytest.raises(VerificationError):
        _verify(authority, issued, name, NOW + timedelta(days=LEAF_DAYS, seconds=1))


def test_another_authority_does_not_vouch_for_it(authority: Issued) -> None:
    """And no two authorities have one name, so that clients never confuse them."""
    other = make_authority(NOW)
    assert other.certificate.subject != authority.certificate.subject
    with pytest.raises(VerificationError):
        _verify(other, issue_server(authority, ["a.test"], NOW), x509.DNSName("a.test"))


def test_a_clients_certificate_is_for_clients_only(authority: Issued) -> None:
    """It cannot pass for a server."""
    issued = issue_client(authority, "api-front", NOW)
    purposes = issued.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    issued.certificate.verify_directly_issued_by(authority.certificate)


def test_the_authority_signs_leaves_only(authority: Issued) -> None:
    """Path length 0 and the usages of an authority; keys are on P-256."""
    extensions = authority.certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    assert authority.key.curve.name == "secp256r1"


def test_nothing_outlives_the_authority(authority: Issued) -> None:
    """A leaf that would is refused."""
    with pytest.raises(UsageError, match="authority expires on 2036-04-28"):
        issue_server(authority, ["a.test"], NOW + timedelta(days=3500))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpu.dreamseed.ai:50051",
        "https://gpu",
        "a b",
        "-a.test",
        "a..b",
        "1.2.3",
        "1.2.3.4.5",
        "*.*.a",
        "ü.test",
    ],
)
def test_what_is_no_name_is_refused(authority: Issued, name: str) -> None:
    """With what to write instead."""
    with pytest.raises(UsageError, match="neither a host name nor an IP address"):
        issue_server(authority, [name], NOW)


@pytest.mark.parametrize(
    "name", ["*.dreamseed.ai", "box", "xn--bcher-kva.example", "a" * 63 + ".test", "b" * 60 + "." + "c" * 60]
)
def test_unusual_names_that_are_right(authority: Issued, name: str) -> None:
    """Wildcards, a bare host, punycode, and names longer than a common name may be."""
    assert name in alternative_names(issue_server(authority, [name], NOW).certificate)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "-x", "x" * 65])
def test_a_clients_name_cannot_leave_its_folder(authority: Issued, name: str) -> None:
    """It becomes a file's name."""
    with pytest.raises(UsageError, match="cannot name a client"):
        issue_client(authority, name, NOW)
