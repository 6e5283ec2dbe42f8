"""What a gateway's certificate must be at the start."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from security_harness import Office, ago

from dreamseed_cli.core.errors import DreamseedError, MissingError, UsageError
from dreamseed_cli.gateway.security.pem import open_to_others
from dreamseed_cli.gateway.security.server import ServerCertificates, load_bundle
from dreamseed_cli.profile.schema import Tls


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """An authority, and a folder for its files."""
    return Office(tmp_path)


def _refusal(tls: Tls) -> DreamseedError:
    with pytest.raises(DreamseedError) as caught:
        load_bundle(tls)
    return caught.value


def test_a_good_pair_is_taken(office: Office) -> None:
    """With what clients are verified by, and the moment it ends."""
    bundle = load_bundle(office.tls(client_ca=True))
    assert b"BEGIN CERTIFICATE" in bundle.chain
    assert bundle.client_ca is not None
    assert timedelta(days=99) < bundle.not_after - ago(0) <= timedelta(days=100)


def test_a_chain_ends_with_its_first_certificate_to_expire(office: Office) -> None:
    """Clients refuse the chain then, however long the server's own is good."""
    tls = office.tls(office.server(days=90))
    chain = Path(tls.certificate).read_bytes() + office.server(days=30).certificate_pem()
    office.put_bytes("server.crt", chain)
    assert load_bundle(tls).not_after - ago(0) < timedelta(days=31)


def test_a_key_of_another_certificate(office: Office) -> None:
    """The key's file is named."""
    tls = office.tls()
    office.put_bytes("server.key", office.server().key_pem())
    error = _refusal(tls)
    assert isinstance(error, UsageError)
    assert "not this certificate's" in error.cause
    assert error.place == tls.key


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o666])
def test_a_key_open_to_others(office: Office, mode: int) -> None:
    """With the command that closes it; the certificate may be read by all."""
    tls = office.tls()
    Path(tls.certificate).chmod(0o644)
    load_bundle(tls)
    Path(tls.key).chmod(mode)
    assert _refusal(tls).remedy == f"Close it: chmod 600 {tls.key}."


@pytest.mark.parametrize(
    ("mode", "owner", "user", "refused"),
    [
        (0o600, 1000, 1000, False),
        (0o400, 0, 0, False),
        (0o640, 1000, 1000, True),
        (0o604, 1000, 1000, True),
        (0o640, 0, 0, True),
        (0o640, 0, 1000, False),
        (0o660, 0, 1000, True),
        (0o644, 0, 1000, True),
    ],
)
def test_who_may_read_a_secret(mode: int, owner: int, user: int, *, refused: bool) -> None:
    """Its owner; and the group of a service, where root keeps the file for it."""
    assert open_to_others(mode, owner=owner, user=user) is refused


def test_an_expired_certificate(office: Office) -> None:
    """When it expired, and how to renew it."""
    error = _refusal(office.tls(office.server(days=5, issued_days_ago=6)))
    assert f"expired on {ago(1):%Y-%m-%d}" in error.cause
    assert "--renew" in error.remedy


def test_a_certificate_of_the_future(office: Office) -> None:
    """The clock is what to look at."""
    error = _refusal(office.tls(office.server(issued_days_ago=-2)))
    assert "not valid before" in error.cause
    assert "clock" in error.remedy


def test_an_expired_client_authority(office: Office) -> None:
    """Everybody would be refused."""
    tls = office.tls(client_ca=True)
    office.put_bytes("ca.crt", office.server(days=5, issued_days_ago=6).certificate_pem())
    assert _refusal(tls).place == tls.client_ca


def test_a_clients_certificate_is_no_servers(office: Office) -> None:
    """It is told here, rather than by every client."""
    assert "no server's certificate" in _refusal(office.tls(office.client())).cause


@pytest.mark.parametrize("name", ["server.crt", "server.key"])
def test_files_that_are_missing_or_garbage(office: Office, name: str) -> None:
    """Each by its name."""
    tls = office.tls()
    file = office.put_bytes(name, b"garbage")
    error = _refusal(tls)
    assert isinstance(error, UsageError)
    assert error.place == str(file)
    file.unlink()
    error = _refusal(tls)
    assert isinstance(error, MissingError)
    assert error.place == str(file)


def test_a_key_behind_a_passphrase(office: Office) -> None:
    """Nobody is there to type it."""
    issued = office.server()
    tls = office.tls(issued)
    locked = issued.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    office.put_bytes("server.key", locked)
    assert "passphrase" in _refusal(tls).cause


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())]
)
def test_keys_that_grpc_cannot_serve(
    office: Office, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    """It would take them, and hang up on every client."""
    model = office.server().certificate
    odd = (
        x509.CertificateBuilder(model.issuer, model.subject, key.public_key(), 1)
        .not_valid_before(model.not_valid_before_utc)
        .not_valid_after(model.not_valid_after_utc)
        .sign(office.authority.key, hashes.SHA256())
    )
    tls = office.tls()
    office.put_bytes("server.crt", odd.public_bytes(serialization.Encoding.PEM))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    office.put_bytes("server.key", key.private_bytes(serialization.Encoding.PEM, *form))
    assert "cannot serve" in _refusal(tls).cause


@pytest.mark.parametrize(("days", "warned"), [(13, True), (15, False)])
def test_a_certificate_that_ends_soon_is_warned_of(office: Office, days: int, *, warned: bool) -> None:
    """From two weeks before, with the days left."""
    with structlog.testing.capture_logs() as logs:
        ServerCertificates(office.tls(office.server(days=days)))
    assert [line["days_left"] for line in logs] == ([12] if warned else [])
