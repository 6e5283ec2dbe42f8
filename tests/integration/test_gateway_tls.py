"""TLS between real gRPC servers and the gateway's client: who is believed, who is let in, what is said."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from free_ports import free_port
from security_harness import NAME, Desk, Office, ago, desk

from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError, UsageError
from dreamseed_cli.gateway.client import GatewayClient
from dreamseed_cli.gateway.security.authority import issue_server, make_authority
from dreamseed_cli.gateway.security.channel import ClientSecurity
from dreamseed_cli.gateway.security.credentials import Credentials
from dreamseed_cli.gateway.security.tokens import new_token
from dreamseed_cli.profile.schema import Security

TOKEN = new_token()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """An authority, and a folder for its files."""
    return Office(tmp_path)


def _security(office: Office, *, client_ca: bool = False) -> Security:
    tokens = office.put_bytes("tokens", f"{TOKEN}\n".encode())
    return Security(tls=office.tls(client_ca=client_ca), service_tokens_file=str(tokens))


async def _ask(server: Desk, security: ClientSecurity | None) -> str:
    async with GatewayClient(server.address, security) as client:
        return (await client.generate("hello", timeout_s=10)).text


async def _refusal(server: Desk, security: ClientSecurity | None) -> DreamseedError:
    with pytest.raises(DreamseedError) as caught:
        await _ask(server, security)
    assert caught.value.place == server.address
    assert caught.value.remedy
    return caught.value


async def test_a_token_over_tls_is_let_in(office: Office) -> None:
    """With the right authority and a service token, streamed and whole; the bearer is trusted."""
    async with desk(_security(office)) as server:
        security = ClientSecurity(office.ca(), token=TOKEN)
        assert await _ask(server, security) == "hello"
        server.release.set()
        async with GatewayClient(server.address, security) as client:
            assert [text async for text in client.ask("hello")] == ["hello"]
        assert server.seen == [Credentials(trusted=True)] * 2


async def test_an_api_key_is_taken_for_later(office: Office) -> None:
    """A user's key is no proof by itself: it comes out untrusted, to be looked up."""
    async with desk(_security(office)) as server:
        await _ask(server, ClientSecurity(office.ca(), token="ds_a_users_key"))
        assert server.seen == [Credentials(trusted=False, api_key="ds_a_users_key")]


@pytest.mark.parametrize("token", [None, new_token()])
async def test_no_token_and_a_wrong_one_are_unauthenticated(office: Office, token: str | None) -> None:
    """Each is told apart, the remedy names the variable, and the token is nowhere in the message."""
    async with desk(_security(office)) as server:
        error = await _refusal(server, ClientSecurity(office.ca(), token=token))
        assert isinstance(error, MissingError)
        assert "DREAMSEED_TOKEN" in error.remedy
        assert ("not known" if token else "neither a token nor") in error.cause
        assert token is None or token not in str(error)
        assert server.seen == []


async def test_a_gateway_of_another_authority_is_not_believed(office: Office) -> None:
    """Neither with the wrong CA file nor with the public authorities: nothing is sent to it."""
    other = Office(office.folder / "..")
    wrong = office.put_bytes("wrong.crt", other.authority.certificate_pem())
    async with desk(_security(office)) as server:
        for security in (ClientSecurity(wrong, token=TOKEN), ClientSecurity(server_name=NAME, token=TOKEN)):
            error = await _refusal(server, security)
            assert isinstance(error, MissingError)
            assert "no authority that this client trusts" in error.cause
            assert "--ca" in error.remedy
        assert server.seen == []


async def test_the_name_must_be_the_certificates(office: Office) -> None:
    """One that connects under a name the certificate lacks is told so; with one that it has it goes on."""
    async with desk(_security(office)) as server:
        ca = office.ca()
        assert await _ask(server, ClientSecurity(ca, token=TOKEN, server_name=NAME)) == "hello"
        error = await _refusal(server, ClientSecurity(ca, token=TOKEN, server_name="other.test"))
        assert isinstance(error, UsageError)
        assert "not for this name" in error.cause


async def test_an_expired_gateway_certificate_is_told_by_the_client(office: Office) -> None:
    """The gateway itself would not start with it; one that expired while it ran is refused by clients."""
    expired = office.server(days=5, issued_days_ago=6)
    server = grpc.aio.server()
    pair = (expired.key_pem(), expired.certificate_pem())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        async with GatewayClient(f"127.0.0.1:{port}", ClientSecurity(office.ca())) as client:
            with pytest.raises(FailedError, match="certificate has expired") as caught:
                await client.generate("x")
            assert "--renew" in caught.value.remedy
    finally:
        await server.stop(0)


async def test_a_client_certificate_of_the_authority_is_let_in(office: Office) -> None:
    """It needs no token beside it, and is trusted."""
    async with desk(_security(office, client_ca=True)) as server:
        certificate, key = office.put("front", office.client())
        assert await _ask(server, ClientSecurity(office.ca(), certificate, key)) == "hello"
        assert server.seen == [Credentials(trusted=True)]


@pytest.mark.parametrize("shown", ["nothing", "expired", "another authority's", "a server's"])
async def test_without_a_good_client_certificate_nobody_connects(office: Office, shown: str) -> None:
    """Absent, expired, of another authority, or made for a server: not even a token helps."""
    other = make_authority(ago(0))
    pairs = {
        "expired": office.client(days=5, issued_days_ago=6),
        "another authority's": Office(office.folder, other).client(),
        "a server's": issue_server(office.authority, [NAME], ago(0), 100),
    }
    security = ClientSecurity(office.ca(), token=TOKEN)
    if shown in pairs:
        certificate, key = office.put("front", pairs[shown])
        security = ClientSecurity(office.ca(), certificate, key, token=TOKEN)
    async with desk(_security(office, client_ca=True)) as server:
        error = await _refusal(server, security)
        assert isinstance(error, MissingError)
        assert "without a client certificate" in error.cause
        assert server.seen == []


async def test_plaintext_to_a_tls_gateway_is_explained(office: Office) -> None:
    """The client on loopback that forgot --ca."""
    async with desk(_security(office)) as server:
        error = await _refusal(server, None)
        assert "may speak TLS" in error.cause
        assert "--ca" in error.remedy


async def test_tls_to_a_plaintext_gateway_is_explained(office: Office) -> None:
    """The other way round."""
    async with desk(Security(), loopback=True) as server:
        error = await _refusal(server, ClientSecurity(office.ca()))
        assert isinstance(error, UsageError)
        assert "speaks no TLS" in error.cause


async def test_a_name_that_leads_nowhere(office: Office) -> None:
    """Beyond loopback it is TLS without being asked; the name is what is wrong."""
    async with GatewayClient("no-such-host.invalid:1", ClientSecurity(office.ca(), token=TOKEN)) as client:
        with pytest.raises(UsageError, match="leads to no gateway"):
            await client.generate("x")


async def test_nobody_listens_where_tls_was_asked(office: Office) -> None:
    """The same message as without TLS."""
    port = free_port()
    async with GatewayClient(f"127.0.0.1:{port}", ClientSecurity(office.ca())) as client:
        with pytest.raises(MissingError, match="Start it: dreamseed serve"):
            await client.generate("x")
