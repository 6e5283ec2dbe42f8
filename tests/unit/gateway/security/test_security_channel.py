"""What a client trusts and shows, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from security_harness import Office

from dreamseed_cli.core.errors import DreamseedError, MissingError, UsageError
from dreamseed_cli.gateway.security.channel import ClientSecurity, call_metadata, open_channel


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """An authority, and a folder for its files."""
    return Office(tmp_path)


@pytest.mark.parametrize(
    ("address", "security", "encrypted"),
    [
        ("127.0.0.1:1", ClientSecurity(), False),
        ("unix:/run/x.sock", ClientSecurity(), False),
        ("127.0.0.1:1", ClientSecurity(ca_file=Path("ca.crt")), True),
        ("127.0.0.1:1", ClientSecurity(server_name="gpu.test"), True),
        ("100.64.1.2:50051", ClientSecurity(), True),
        ("gpu.dreamseed.ai:443", ClientSecurity(token="t"), True),
        ("gpu.dreamseed.ai:443", ClientSecurity(plaintext=True), False),
    ],
)
def test_tls_is_spoken_beyond_loopback_and_where_it_is_asked(
    address: str, security: ClientSecurity, *, encrypted: bool
) -> None:
    """Plaintext beyond loopback has to be said."""
    assert security.encrypts(address) is encrypted


async def test_a_token_never_leaves_this_host_in_clear() -> None:
    """The channel is refused before it exists; on loopback, and without a token, it is not."""
    security = ClientSecurity(token="secret-token", plaintext=True)
    with pytest.raises(UsageError, match="never sent without TLS") as caught:
        open_channel("100.64.1.2:50051", security)
    assert "secret-token" not in str(caught.value)
    await open_channel("127.0.0.1:1", security).close()
    await open_channel("100.64.1.2:50051", ClientSecurity(plaintext=True)).close()


def test_the_token_is_not_in_the_representation() -> None:
    """It would be in logs otherwise."""
    assert "secret-token" not in repr(ClientSecurity(token="secret-token"))


def test_a_calls_metadata() -> None:
    """The token and a user's key; nothing where there is nothing."""
    assert call_metadata(None) == ()
    assert call_metadata(ClientSecurity()) == ()
    assert call_metadata(ClientSecurity(token="t"), user_key="ds_k") == (
        ("authorization", "Bearer t"),
        ("x-user-key", "ds_k"),
    )


@pytest.mark.parametrize("token", ["", "two words", "a\nb", "ü", "nul\0"])
def test_a_token_that_fits_no_header_is_refused_unshown(token: str) -> None:
    """gRPC would raise with the token in its message."""
    for given in ({"security": ClientSecurity(token=token)}, {"security": None, "user_key": token}):
        with pytest.raises(UsageError, match="empty, or holds a space") as caught:
            call_metadata(**given)
        assert not token or token not in str(caught.value)


def _refusal(security: ClientSecurity) -> DreamseedError:
    with pytest.raises(DreamseedError) as caught:
        open_channel("127.0.0.1:1", security)
    return caught.value


def test_files_are_checked_before_a_connection_is_tried(office: Office) -> None:
    """Missing, garbage, half a pair, a pair that does not fit: each by its file."""
    ca = office.ca()
    certificate, key = office.put("front", office.client())
    missing = _refusal(ClientSecurity(office.folder / "none"))
    assert isinstance(missing, MissingError)
    assert missing.place == str(office.folder / "none")
    garbage = office.put_bytes("garbage", b"garbage")
    assert "no certificate" in _refusal(ClientSecurity(garbage)).cause
    assert _refusal(ClientSecurity(ca, certificate)).place == str(certificate)
    assert _refusal(ClientSecurity(ca, key_file=key)).place == str(key)
    _, other = office.put("other", office.client())
    assert "made apart" in _refusal(ClientSecurity(ca, certificate, other)).cause
