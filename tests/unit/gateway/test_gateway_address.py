"""Where the gateway may listen, and what must then be set."""

from __future__ import annotations

from typing import Any

import pytest

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.gateway.address import (
    dial_address,
    explain_bind_failure,
    is_local_target,
    listen_address,
    listen_errors,
    profile_listen_errors,
)
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import Gateway, Postgres, Security, Services, Tls

ANYWHERE = ["0.0.0.0", "::", "192.168.1.5", "100.64.1.2", "example.org", "", "127.0.0.1.example.org"]  # noqa: S104
TLS = Tls(certificate="server.crt", key="server.key")
MUTUAL = Tls(certificate="server.crt", key="server.key", client_ca="ca.crt", require_client_certificate=True)


def _places(host: str, security: Security, *, accounts: bool = False) -> list[str]:
    errors = listen_errors(host, security, accounts=accounts)
    assert all(error.remedy for error in errors)
    return [error.place for error in errors]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:1"),
        ("127.9.9.9", "127.9.9.9:1"),
        ("::1", "[::1]:1"),
        ("localhost", "localhost:1"),
    ],
)
def test_loopback_is_allowed(host: str, expected: str) -> None:
    """Every way to say loopback is taken, with and without TLS."""
    assert listen_address(host, 1, Security()) == expected
    assert listen_address(host, 1, Security(tls=TLS)) == expected


@pytest.mark.parametrize("host", ANYWHERE)
def test_anything_else_is_refused_without_tls(host: str) -> None:
    """§D1's insecure port on a public address is refused, with the way out, whoever could authenticate."""
    security = Security(service_tokens_file="tokens")
    with pytest.raises(UsageError, match="loopback only") as caught:
        listen_address(host, 50051, security, accounts=True)
    assert caught.value.place == "gateway.host"
    assert "dreamseed certs create" in caught.value.remedy


@pytest.mark.parametrize("host", ANYWHERE)
@pytest.mark.parametrize(
    ("security", "accounts"),
    [
        (Security(tls=TLS, service_tokens_file="tokens"), False),
        (Security(tls=TLS), True),
        (Security(tls=MUTUAL), False),
        (Security(tls=TLS, service_tokens_file="tokens", require_authentication=True), True),
    ],
)
def test_tls_and_something_to_prove_oneself_by_open_it(
    host: str, security: Security, *, accounts: bool
) -> None:
    """Service tokens, accounts, or client certificates: one is enough."""
    assert _places(host, security, accounts=accounts) == []


def test_tls_alone_is_not_enough_beyond_loopback() -> None:
    """Everybody would be refused; on loopback nobody is asked."""
    assert _places("100.64.1.2", Security(tls=TLS)) == ["gateway.security"]
    assert _places("127.0.0.1", Security(tls=TLS)) == []


def test_authentication_cannot_be_waived_beyond_loopback() -> None:
    """`require_authentication = false` is for loopback."""
    security = Security(tls=TLS, service_tokens_file="tokens", require_authentication=False)
    assert _places("100.64.1.2", security) == ["gateway.security.require_authentication"]
    assert _places("127.0.0.1", security) == []


def test_authentication_asked_on_loopback_needs_something_to_prove_it_by() -> None:
    """Or nobody could ever get in."""
    security = Security(require_authentication=True)
    assert _places("127.0.0.1", security) == ["gateway.security"]
    assert _places("127.0.0.1", security, accounts=True) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "100.64.1.2"])
@pytest.mark.parametrize(
    ("client", "place"),
    [
        ({"client_ca": "ca.crt"}, "gateway.security.tls.client_ca"),
        ({"require_client_certificate": True}, "gateway.security.tls.require_client_certificate"),
    ],
)
def test_a_client_authority_and_the_demand_for_certificates_go_together(
    host: str, client: dict[str, Any], place: str
) -> None:
    """gRPC for Python cannot ask for a certificate without demanding one: no profile may seem to."""
    tls = Tls(certificate="server.crt", key="server.key", **client)
    assert _places(host, Security(tls=tls, service_tokens_file="tokens")) == [place]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Three mistakes take one round."""
    with pytest.raises(ErrorGroup) as caught:
        listen_address("0.0.0.0", 50051, Security(require_authentication=False))  # noqa: S104 - refused
    assert [error.place for error in caught.value.errors] == [
        "gateway.host",
        "gateway.security.require_authentication",
        "gateway.security",
    ]


def test_the_documents_insecure_port_is_a_finding() -> None:
    """A profile that opens it is told by name; the shipped ones do not."""
    assert [profile_listen_errors(load_profile(name)) for name in shipped_names()] == [
        [] for _ in shipped_names()
    ]
    services = Services(postgres=Postgres(mode="off"))
    exposed = load_profile("laptop").model_copy(
        update={"gateway": Gateway(host="0.0.0.0"), "services": services}  # noqa: S104 - §D1's
    )
    errors = profile_listen_errors(exposed)
    assert [error.place for error in errors] == ["laptop: gateway.host", "laptop: gateway.security"]


def test_accounts_are_counted_unless_postgresql_is_off() -> None:
    """Users' API keys are what proves callers then."""
    gateway = Gateway(host="100.64.1.2", security=Security(tls=TLS))
    assert profile_listen_errors(load_profile("laptop").model_copy(update={"gateway": gateway})) == []


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("::1", True),
        ("unix:/run/x.sock", True),
        ("100.64.1.2:1", False),
        ("gpu.dreamseed.ai:443", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("127.0.0.1:1,10.0.0.1:1", False),
        ("evil.test:127.0.0.1", False),
        ("127.0.0.1.evil.test:1", False),
        ("", False),
    ],
)
def test_which_targets_stay_on_this_host(target: str, *, local: bool) -> None:
    """In doubt it does not."""
    assert is_local_target(target) is local


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "127.0.0.1:5"), ("::", "[::1]:5"), ("127.0.0.1", "127.0.0.1:5"), ("gpu.test", "gpu.test:5")],  # noqa: S104
)
def test_a_wildcard_is_reached_through_loopback(host: str, expected: str) -> None:
    """No certificate is for 0.0.0.0."""
    assert dial_address(host, 5) == expected


def test_an_address_of_another_machine_cannot_be_had() -> None:
    """The reason is the system's."""
    assert "cannot be had" in explain_bind_failure("203.0.113.1", 50051).cause
