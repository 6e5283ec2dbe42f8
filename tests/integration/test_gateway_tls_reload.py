"""Certificates that change under a listening gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog
from gateway_harness import until
from security_harness import NAME, Office, desk, served_serial

from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.gateway.client import GatewayClient
from dreamseed_cli.gateway.security.authority import make_authority
from dreamseed_cli.gateway.security.channel import ClientSecurity
from dreamseed_cli.gateway.security.folder import CertificateFolder
from dreamseed_cli.gateway.security.server import ServerCertificates
from dreamseed_cli.profile.schema import Security, Tls


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """An authority, and a folder for its files."""
    return Office(tmp_path)


async def test_a_renewed_certificate_serves_new_connections_and_a_running_stream_goes_on(
    office: Office,
) -> None:
    """The stream began before the renewal and ends after it, on its old connection."""
    security = Security(tls=office.tls(), require_authentication=False)
    async with desk(security) as server, GatewayClient(server.address, ClientSecurity(office.ca())) as client:
        before = await asyncio.to_thread(served_serial, server.port)
        stream = client.ask("hello")
        texts = aiter(stream)
        assert await anext(texts) == "hello"
        renewed = office.server()
        office.put("server", renewed)
        assert (
            await asyncio.to_thread(served_serial, server.port) == renewed.certificate.serial_number != before
        )
        server.release.set()
        assert [text async for text in texts] == []
        assert stream.answer.finish_reason == "stop"
        async with GatewayClient(server.address, ClientSecurity(office.ca())) as late:
            assert (await late.generate("again")).text == "again"


@pytest.mark.parametrize("mishap", ["cut in half", "another key", "expired", "open to others", "gone"])
async def test_a_bad_new_certificate_keeps_the_old_one(office: Office, mishap: str) -> None:
    """It is logged once, not at every connection; the right one is taken as soon as it is there."""
    security = Security(tls=office.tls(), require_authentication=False)
    async with desk(security) as server:
        before = await asyncio.to_thread(served_serial, server.port)
        good = office.server()
        _spoil(office, mishap)
        with structlog.testing.capture_logs() as logs:
            assert await asyncio.to_thread(served_serial, server.port) == before
            assert await asyncio.to_thread(served_serial, server.port) == before
        assert [line["event"] for line in logs] == ["new certificate refused, the old one stays"]
        office.put("server", good)
        assert await asyncio.to_thread(served_serial, server.port) == good.certificate.serial_number


def _spoil(office: Office, mishap: str) -> None:
    good = office.server()
    key, certificate = office.folder / "server.key", office.folder / "server.crt"
    if mishap == "cut in half":
        certificate.write_bytes(good.certificate_pem()[:200])
    elif mishap == "another key":
        office.put_bytes("server.key", good.key_pem())
    elif mishap == "expired":
        office.put("server", office.server(days=5, issued_days_ago=6))
    elif mishap == "open to others":
        key.chmod(0o644)
    else:
        key.unlink()


async def test_a_changed_client_authority_is_taken_too(office: Office) -> None:
    """A caller of the old authority is then refused, one of the new let in."""
    async with desk(Security(tls=office.tls(client_ca=True))) as server:
        ca = office.ca()
        old = office.put("old", office.client())
        async with GatewayClient(server.address, ClientSecurity(ca, *old)) as client:
            await client.generate("x")
        successor = Office(office.folder, make_authority(office.authority.certificate.not_valid_before_utc))
        own_ca = office.put_bytes("own-ca.crt", office.authority.certificate_pem())
        new = office.put("new", successor.client())
        successor.ca()  # replaces ca.crt, which is the gateway's client_ca
        async with GatewayClient(server.address, ClientSecurity(own_ca, *new)) as client:
            assert (await client.generate("x")).text == "x"
        async with GatewayClient(server.address, ClientSecurity(own_ca, *old)) as client:
            with pytest.raises(MissingError, match="without a client certificate"):
                await client.generate("x")


async def test_dreamseed_certs_renews_under_a_running_gateway(tmp_path: Path) -> None:
    """The folder's own renewal: same authority, same names, and the clients' CA file still does."""
    folder = CertificateFolder(tmp_path / "certs")
    now = Office(tmp_path).authority.certificate.not_valid_before_utc
    folder.create([NAME], [], now, 2000, renew=False)
    tls = Tls(certificate=str(folder.server.certificate), key=str(folder.server.key))
    security = ClientSecurity(folder.authority.certificate, server_name=NAME)
    async with desk(Security(tls=tls, require_authentication=False)) as server:
        before = await asyncio.to_thread(served_serial, server.port)
        folder.create([], [], now, 2000, renew=True)
        assert await asyncio.to_thread(served_serial, server.port) != before
        async with GatewayClient(server.address, security) as client:
            assert (await client.generate("x")).text == "x"


async def test_a_hundred_renewals_under_connecting_clients_never_fail_one(office: Office) -> None:
    """Whatever moment a client connects at, it gets a whole pair: the old one or the new."""
    security = Security(tls=office.tls(), require_authentication=False)
    renewing = asyncio.Event()

    async def renew() -> None:
        for _ in range(100):
            await asyncio.to_thread(office.put, "server", office.server())
        renewing.set()

    async with desk(security) as server:
        ca = office.ca()
        task = asyncio.create_task(renew())
        connected = 0
        while not renewing.is_set():
            async with GatewayClient(server.address, ClientSecurity(ca)) as client:
                try:
                    await client.generate("x", timeout_s=20)
                except FailedError as error:
                    pytest.fail(str(error))
            connected += 1
        await task
        assert connected > 0
        newest = (office.folder / "server.crt").read_bytes()
        from cryptography.x509 import load_pem_x509_certificate

        serial = load_pem_x509_certificate(newest).serial_number

        async def caught_up() -> bool:
            return await asyncio.to_thread(served_serial, server.port) == serial

        await until(caught_up)


async def test_files_are_looked_at_once_an_interval(office: Office) -> None:
    """A storm of connections costs no storm of file reads: within the interval nothing is asked."""
    certificates = ServerCertificates(office.tls(), interval_s=3600)
    first = certificates.not_after
    office.put("server", office.server(days=50))
    assert certificates._fetch() is None
    assert certificates.not_after == first
