"""The front's settings come from the environment, and unsafe ones are refused."""
# ruff: noqa: S104 - what listens everywhere is what is tried here

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, MissingError, UsageError

_LOCAL = {"GPU_ENDPOINT": "127.0.0.1:50051"}
_BEHIND_TLS = _LOCAL | {"TLS_TERMINATED": "yes"}
_REMOTE = {"GPU_ENDPOINT": "gpu.dreamseed.ai:50051", "GATEWAY_TOKEN": "t"}
_FALLBACK = {
    "FALLBACK_URL": "https://api.example.com/v1",
    "FALLBACK_MODEL": "m",
    "FALLBACK_INPUT_USD_PER_MTOK": "0.15",
    "FALLBACK_OUTPUT_USD_PER_MTOK": "0.6",
    "FALLBACK_MONTHLY_CAP_USD": "25",
}


def test_defaults_are_loopback_and_the_documents_port() -> None:
    """§C1's port, loopback unless asked otherwise; empty variables are unset, others are passed over."""
    settings = read_settings(_LOCAL | {"PORT": "", "PATH": "/bin", "HOST": "0.0.0.0"})
    assert (settings.host, settings.port, settings.gateway_timeout_s) == ("127.0.0.1", 8080, 30.0)
    assert settings.on_loopback


def test_a_line_end_is_not_of_a_secret() -> None:
    """`gcloud secrets create --data-file` keeps the file's, and no header may hold one."""
    settings = read_settings(_REMOTE | {"GATEWAY_TOKEN": "dss_token\n", "METRICS_TOKEN": " m\r\n"})
    assert settings.gateway_token is not None
    assert settings.metrics_token is not None
    assert (settings.gateway_token.get_secret_value(), settings.metrics_token.get_secret_value()) == (
        "dss_token",
        "m",
    )


def test_cloud_run_listens_for_everybody() -> None:
    """K_SERVICE is Cloud Run's own mark; PORT is honoured; a flag wins over both."""
    settings = read_settings(_REMOTE | {"K_SERVICE": "dreamseed-api", "PORT": "9000"})
    assert (settings.host, settings.port, settings.on_loopback) == ("0.0.0.0", 9000, False)
    assert read_settings(_REMOTE | {"PORT": "9000"}, host="::1", port=7).port == 7


def test_beyond_loopback_whoever_starts_it_says_that_tls_ends_before_it() -> None:
    """The front itself speaks none."""
    settings = read_settings(_BEHIND_TLS, host="0.0.0.0")
    assert not settings.on_loopback


def test_secrets_come_from_files_and_are_not_shown(tmp_path: Path) -> None:
    """A file's secret without its line end; neither str() nor repr() tells it."""
    (tmp_path / "token").write_text("very-secret\n")
    settings = read_settings(_LOCAL | {"GATEWAY_TOKEN_FILE": str(tmp_path / "token")})
    assert settings.gateway_token is not None
    assert settings.gateway_token.get_secret_value() == "very-secret"
    assert "very-secret" not in f"{settings} {settings!r}"
    (tmp_path / "empty").write_text("\n")
    for name, cause in (("none", "cannot be read"), ("empty", "is empty")):
        with pytest.raises(ErrorGroup) as caught:
            read_settings(_REMOTE | {"GATEWAY_TOKEN": "", "GATEWAY_TOKEN_FILE": str(tmp_path / name)})
        (problem,) = caught.value.errors
        assert isinstance(problem, MissingError)
        assert (problem.place, problem.cause.startswith(cause)) == (str(tmp_path / name), True)


def test_money_is_exact() -> None:
    """Prices and caps are decimals, in whole millionths of a dollar."""
    settings = read_settings(_LOCAL | _FALLBACK)
    assert settings.fallback_input_usd_per_mtok == Decimal("0.15")
    assert settings.fallback_lease_usd == Decimal("0.50")
    for wrong in ("0.0000001", "-1", "NaN", "Infinity", "many"):
        with pytest.raises(ErrorGroup, match="FALLBACK_MONTHLY_CAP_USD"):
            read_settings(_LOCAL | _FALLBACK | {"FALLBACK_MONTHLY_CAP_USD": wrong})


@pytest.mark.parametrize(
    ("environment", "options", "place"),
    [
        ({}, {}, "$GPU_ENDPOINT"),
        (_LOCAL | {"PORT": "99999"}, {}, "$PORT"),
        (_LOCAL | {"GATEWAY_TIMEOUT_S": "0"}, {}, "$GATEWAY_TIMEOUT_S"),
        (_BEHIND_TLS, {"allow_anonymous": True, "host": "0.0.0.0"}, "--allow-anonymous"),
        (_LOCAL, {"host": "0.0.0.0"}, "--host"),
        (_LOCAL | {"TLS_TERMINATED": "no"}, {"host": "192.168.1.5"}, "--host"),
        (_LOCAL | {"TLS_TERMINATED": "perhaps"}, {}, "$TLS_TERMINATED"),
        (_LOCAL | {"K_SERVICE": "x"}, {"allow_anonymous": True}, "--allow-anonymous"),
        ({"GPU_ENDPOINT": "10.0.0.7:50051"}, {}, "$GATEWAY_TOKEN"),
        (_LOCAL | _FALLBACK | {"FALLBACK_URL": "http://example.com/v1"}, {}, "$FALLBACK_URL"),
        (_LOCAL | _FALLBACK | {"FALLBACK_URL": "ftp://127.0.0.1/v1"}, {}, "$FALLBACK_URL"),
        (_LOCAL | _FALLBACK | {"FALLBACK_MODEL": ""}, {}, "$FALLBACK_MODEL"),
        (_LOCAL | _FALLBACK | {"FALLBACK_MONTHLY_CAP_USD": ""}, {}, "$FALLBACK_MONTHLY_CAP_USD"),
    ],
)
def test_unsafe_and_incomplete_settings_are_refused(
    environment: dict[str, str], options: dict[str, object], place: str
) -> None:
    """The variable or flag is named."""
    with pytest.raises(DreamseedError) as caught:
        read_settings(environment, **options)  # type: ignore[arg-type]
    assert [cause.place for cause in caught.value.causes()] == [place]
    assert all(isinstance(cause, UsageError) for cause in caught.value.causes())


def test_all_mistakes_are_told_at_once() -> None:
    """One round mends them all."""
    with pytest.raises(ErrorGroup) as caught:
        read_settings({"GPU_ENDPOINT": "10.0.0.7:1", **_FALLBACK, "FALLBACK_MODEL": "", "FALLBACK_URL": "x"})
    assert len(caught.value.errors) == 3


def test_a_wrong_value_hides_no_other_mistake(tmp_path: Path) -> None:
    """Each with its place, once: a cap that is no number is not also called unset."""
    wrong = {
        "PORT": "99999",
        "FALLBACK_MONTHLY_CAP_USD": "many",
        "FALLBACK_URL": "http://example.com/v1",
        "FALLBACK_MODEL": "",
        "FALLBACK_API_KEY_FILE": str(tmp_path / "none"),
    }
    with pytest.raises(ErrorGroup) as caught:
        read_settings(_FALLBACK | wrong, allow_anonymous=True, host="0.0.0.0")
    assert sorted(problem.place for problem in caught.value.errors) == sorted(
        [
            "$GPU_ENDPOINT",
            "$PORT",
            "$FALLBACK_MONTHLY_CAP_USD",
            "$FALLBACK_URL",
            "$FALLBACK_MODEL",
            "--allow-anonymous",
            "--host",
            str(tmp_path / "none"),
        ]
    )
