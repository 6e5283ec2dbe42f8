"""What a caller shows, and what it counts for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.gateway.refusals import Unauthenticated
from dreamseed_cli.gateway.security.caller import CallerCheck
from dreamseed_cli.gateway.security.credentials import Credentials
from dreamseed_cli.gateway.security.tokens import new_token
from dreamseed_cli.profile.schema import Security, Tls

TOKEN = new_token()
KEY, OTHER_KEY = "ds_one", "ds_two"
TRUSTED = Credentials(trusted=True)


class Connection:
    """The security properties of a connection, as gRPC reports them."""

    def __init__(self, *, certificate: bool = False) -> None:
        self._properties = {"x509_pem_cert": [b"PEM"]} if certificate else {"security_level": [b"x"]}

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return self._properties


def _check(
    tmp_path: Path, *, loopback: bool = False, client_ca: bool = False, **security: bool
) -> CallerCheck:
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"{TOKEN}\n")
    tls = Tls(certificate="c", key="k", client_ca="ca" if client_ca else None)
    return CallerCheck(Security(tls=tls, service_tokens_file=str(tokens), **security), loopback=loopback)


def _metadata(bearer: str | None = None, user_key: str | None = None) -> list[tuple[str, str | bytes]]:
    shown: list[tuple[str, str | bytes]] = [("user-agent", "a test")]
    if bearer is not None:
        shown.append(("authorization", f"Bearer {bearer}"))
    if user_key is not None:
        shown.append(("x-user-key", user_key))
    return shown


@pytest.mark.parametrize(
    ("bearer", "user_key", "expected"),
    [
        (TOKEN, None, TRUSTED),
        (TOKEN, KEY, Credentials(trusted=True, api_key=KEY)),
        (KEY, None, Credentials(trusted=False, api_key=KEY)),
        (KEY, OTHER_KEY, Credentials(trusted=False, api_key=KEY)),
    ],
)
def test_beyond_loopback(
    tmp_path: Path, bearer: str | None, user_key: str | None, expected: Credentials
) -> None:
    """A service token is trusted and may bring its user's key; a user's own key is evidence to look up, and
    what an untrusted caller says of another is passed over.
    """
    assert _check(tmp_path).credentials(Connection(), _metadata(bearer, user_key)) == expected


@pytest.mark.parametrize(
    ("bearer", "user_key"),
    [(None, None), (new_token(), None), ("", None), (None, KEY), (TOKEN[:-1], None), (TOKEN, "not-a-key")],
)
def test_beyond_loopback_nothing_and_anything_wrong_is_refused(
    tmp_path: Path, bearer: str | None, user_key: str | None
) -> None:
    """No token, a wrong, an empty or a cut one, a key that nobody vouches for, a user key that is none."""
    with pytest.raises(Unauthenticated) as caught:
        _check(tmp_path).credentials(Connection(), _metadata(bearer, user_key))
    for secret in (bearer, user_key):
        assert not secret or secret not in str(caught.value)


def test_no_metadata_at_all_is_refused(tmp_path: Path) -> None:
    """As nothing shown."""
    with pytest.raises(Unauthenticated):
        _check(tmp_path).credentials(Connection(), None)


def test_a_verified_certificate_is_trusted(tmp_path: Path) -> None:
    """Where there is an authority for clients; it may bring a user's key either way."""
    check = _check(tmp_path, client_ca=True)
    shown = Connection(certificate=True)
    assert check.credentials(shown, _metadata()) == TRUSTED
    assert check.credentials(shown, _metadata(user_key=KEY)) == Credentials(trusted=True, api_key=KEY)
    assert check.credentials(shown, _metadata(KEY)) == Credentials(trusted=True, api_key=KEY)
    with pytest.raises(Unauthenticated):
        check.credentials(Connection(), _metadata())


def test_a_wrong_token_beside_a_certificate_is_refused(tmp_path: Path) -> None:
    """What is shown must be right."""
    with pytest.raises(Unauthenticated, match="not known"):
        _check(tmp_path, client_ca=True).credentials(Connection(certificate=True), _metadata(new_token()))


def test_a_certificate_counts_only_where_an_authority_is_set(tmp_path: Path) -> None:
    """Without client_ca nobody verified it."""
    with pytest.raises(Unauthenticated):
        _check(tmp_path).credentials(Connection(certificate=True), _metadata())


@pytest.mark.parametrize(
    ("bearer", "user_key", "expected"),
    [
        (None, None, TRUSTED),
        ("EMPTY", None, TRUSTED),
        (TOKEN, None, TRUSTED),
        (KEY, None, Credentials(trusted=True, api_key=KEY)),
        (None, KEY, Credentials(trusted=True, api_key=KEY)),
    ],
)
def test_on_loopback_everybody_is_trusted(
    tmp_path: Path, bearer: str | None, user_key: str | None, expected: Credentials
) -> None:
    """Nothing need be shown, and the placeholder of an OpenAI client does no harm; a key still counts."""
    check = _check(tmp_path, loopback=True)
    assert check.credentials(Connection(), _metadata(bearer, user_key)) == expected


def test_loopback_can_ask_for_authentication(tmp_path: Path) -> None:
    """require_authentication holds there too."""
    check = _check(tmp_path, loopback=True, require_authentication=True)
    assert check.credentials(Connection(), _metadata(TOKEN)) == TRUSTED
    with pytest.raises(Unauthenticated):
        check.credentials(Connection(), _metadata())


@pytest.mark.parametrize("key", ["authorization", "x-user-key"])
def test_two_keys_of_one_kind_are_refused(tmp_path: Path, key: str) -> None:
    """Nobody guesses which one is meant."""
    twice = [*_metadata(TOKEN, KEY), (key, f"Bearer {TOKEN}")]
    with pytest.raises(Unauthenticated, match="two keys"):
        _check(tmp_path).credentials(Connection(), twice)


@pytest.mark.parametrize("value", [f"bearer {TOKEN}", f"BEARER   {TOKEN} "])
def test_the_schemes_name_is_in_any_case(tmp_path: Path, value: str) -> None:
    """RFC 9110 compares it without regard to case."""
    assert _check(tmp_path).credentials(Connection(), [("authorization", value)]) == TRUSTED


@given(value=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_nothing_else_opens_the_door(value: str) -> None:
    """Whatever stands in `authorization`: without a known token it is a user's key to look up, or refused."""
    check = CallerCheck(Security(), loopback=False)
    try:
        found = check.credentials(Connection(), [("authorization", value)])
    except Unauthenticated:
        return
    assert not found.trusted
    assert found.api_key is not None
    assert found.api_key.startswith("ds_")
