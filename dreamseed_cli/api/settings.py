"""What the front is told, from environment variables as Cloud Run gives them; the unsafe is refused."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from dreamseed_cli.core.address import is_loopback
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, MissingError, UsageError
from dreamseed_cli.gateway.address import is_local_target

Money = Annotated[Decimal, Field(ge=0, lt=1_000_000, decimal_places=6)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class ApiSettings(BaseModel):
    """Each field is the environment variable of its name in capitals; empty is unset."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    gpu_endpoint: Annotated[str, Field(min_length=1)]
    """HOST:PORT of the gateway (§C1). Beyond loopback TLS is spoken, always."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Where to listen (§C1); 0 takes a free port."""
    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 on Cloud Run, which sets K_SERVICE and terminates TLS before the container."""
    tls_terminated: bool = False
    """Whether something before the front speaks TLS with its clients, as Cloud Run does: beyond loopback this
    must be so."""
    allow_anonymous: bool = False
    """Whether requests without a key are passed on; on loopback only."""
    gateway_token: SecretStr | None = None
    """The front's own service token."""
    gateway_token_file: Path | None = None
    gateway_ca_file: Path | None = None
    """The authority of the gateway's certificate (PEM); unset: the public ones."""
    gateway_certificate_file: Path | None = None
    gateway_key_file: Path | None = None
    gateway_server_name: str | None = None
    """The name in the gateway's certificate, if GPU_ENDPOINT has another."""
    gateway_timeout_s: Seconds = 30.0
    """How long an answer may take, attempts and waiting between them included (§D1)."""
    gateway_retries: Annotated[int, Field(ge=0, le=10)] = 3
    """Further attempts after a failure (§H2)."""
    gateway_most_waiting: Annotated[int, Field(ge=0)] = 256
    """Requests without a fallback that wait for a gateway that is away; more get 503 at once. Each keeps its
    body in memory."""
    questions_at_once: Annotated[int, Field(ge=1)] = 100
    """Questions that are asked for at a time (§C1's containerConcurrency); more get 503 at once."""
    fallback_url: str | None = None
    """Base address of an OpenAI-compatible service, such as https://api.openai.com/v1 (§H2)."""
    fallback_model: str = ""
    fallback_api_key: SecretStr | None = None
    fallback_api_key_file: Path | None = None
    fallback_input_usd_per_mtok: Money | None = None
    """US dollars for a million tokens of prompt."""
    fallback_output_usd_per_mtok: Money | None = None
    """US dollars for a million tokens of answer."""
    fallback_monthly_cap_usd: Money | None = None
    """The most that all fronts together spend on the fallback in a calendar month (UTC)."""
    fallback_lease_usd: Annotated[Money, Field(gt=0)] = Decimal("0.50")
    """How much of it one front borrows ahead; all of a lease counts as spent if the front dies with it."""
    fallback_timeout_s: Seconds = 30.0
    fallback_for: Literal["seen_keys", "any_key"] = "seen_keys"
    """Whom the fallback answers: bearers of keys that the gateway accepted from this front in the last 24
    hours, or of any key, since nobody can check it while the gateway is away."""
    fallback_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the fallback's model calls the longest answer."""
    metrics_token: SecretStr | None = None
    """The bearer token for /metrics; without it /metrics is there on loopback only."""
    drain_timeout_s: Seconds = 8.0
    """How long running requests may finish after SIGTERM; Cloud Run kills 10 s after it."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the front."""
        return is_loopback(self.host)


def read_settings(
    environment: Mapping[str, str],
    *,
    host: str | None = None,
    port: int | None = None,
    allow_anonymous: bool = False,
) -> ApiSettings:
    """The environment's settings, with the command line's over them; secret files are read.

    Raises UsageError, or several as an ErrorGroup, naming variables; MissingError for a file.
    """
    # A secret that was made from a file has the line's end of that file.
    told = {name: environment.get(name.upper(), "").strip() for name in ApiSettings.model_fields}
    given: dict[str, object] = {
        name: value for name, value in told.items() if value and name not in _NOT_FROM_ENVIRONMENT
    }
    if "K_SERVICE" in environment:
        given["host"] = "0.0.0.0"  # noqa: S104 - Cloud Run's contract: it reaches the container so
        given["tls_terminated"] = True
    chosen = {"host": host, "port": port, "allow_anonymous": allow_anonymous or None}
    given |= {name: value for name, value in chosen.items() if value is not None}
    settings, problems = _validated(given)
    settings, unreadable = _with_files(settings)
    blamed = {problem.place for problem in problems}
    judged = (*_unsafe(settings), *_incomplete_fallback(settings))
    # What a wrong value stands for is not known: only the value itself is complained of.
    problems += [problem for problem in judged if problem.place not in blamed]
    problems += unreadable
    if problems:
        raise ErrorGroup(problems)
    return settings


_NOT_FROM_ENVIRONMENT = {"host", "allow_anonymous"}


def _validated(given: dict[str, object]) -> tuple[ApiSettings, list[DreamseedError]]:
    """The settings, and what is wrong with single values; these have their defaults then, so that the rest
    can be judged all the same.
    """
    try:
        return ApiSettings.model_validate(given), []
    except ValidationError as error:
        wrong = error.errors()
    names = {str(single["loc"][0]) for single in wrong}
    right = {name: value for name, value in given.items() if name not in names}
    settings = ApiSettings.model_validate({"gpu_endpoint": _NOWHERE} | right)
    return settings, [_explain(single["loc"], single["msg"]) for single in wrong]


_NOWHERE = "127.0.0.1:0"


def _explain(location: tuple[int | str, ...], message: str) -> DreamseedError:
    name = f"${str(location[0]).upper()}"
    if message == "Field required":
        return UsageError("is not set", place=name, remedy=f"Set {name[1:]}: see docs/runbooks/api.md.")
    return UsageError(message, place=name)


def _with_files(settings: ApiSettings) -> tuple[ApiSettings, list[DreamseedError]]:
    """Secrets from their files, where a file is named, and which cannot be read."""
    found: dict[str, SecretStr] = {}
    problems: list[DreamseedError] = []
    for name, path in (
        ("gateway_token", settings.gateway_token_file),
        ("fallback_api_key", settings.fallback_api_key_file),
    ):
        if path is None:
            continue
        try:
            found[name] = _read_secret(path)
        except MissingError as error:
            problems.append(error)
    return settings.model_copy(update=found), problems


def _read_secret(path: Path) -> SecretStr:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MissingError(f"cannot be read: {error}", place=str(path)) from error
    if not secret:
        raise MissingError("is empty", place=str(path), remedy="Write the secret into it.")
    return SecretStr(secret)


def _unsafe(settings: ApiSettings) -> list[DreamseedError]:
    problems: list[DreamseedError] = []
    if settings.allow_anonymous and not settings.on_loopback:
        problems.append(
            UsageError(
                f"anybody on the network could use the cards through {settings.host}",
                place="--allow-anonymous",
                remedy="Use it on loopback only.",
            )
        )
    if not settings.tls_terminated and not settings.on_loopback:
        problems.append(
            UsageError(
                f"prompts and API keys would travel in clear to {settings.host}",
                place="--host",
                remedy="Listen on loopback, or set TLS_TERMINATED=yes if what passes requests on to it "
                "speaks TLS with clients.",
            )
        )
    known = settings.gateway_token or settings.gateway_token_file or settings.gateway_certificate_file
    if not known and not is_local_target(settings.gpu_endpoint):
        problems.append(
            UsageError(
                "a gateway beyond loopback answers only to a front that it knows",
                place="$GATEWAY_TOKEN",
                remedy="Set GATEWAY_TOKEN (or GATEWAY_TOKEN_FILE), or GATEWAY_CERTIFICATE_FILE.",
            )
        )
    return problems


def _incomplete_fallback(settings: ApiSettings) -> list[DreamseedError]:
    if settings.fallback_url is None:
        return []
    url = urlsplit(settings.fallback_url)
    problems: list[DreamseedError] = []
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
        cause = "prompts and the key would travel in clear, or nowhere"
        problems.append(UsageError(cause, place="$FALLBACK_URL", remedy="Give an https:// address."))
    needed = (
        "fallback_model",
        "fallback_input_usd_per_mtok",
        "fallback_output_usd_per_mtok",
        "fallback_monthly_cap_usd",
    )
    problems.extend(
        UsageError("is not set, and FALLBACK_URL is", place=f"${name.upper()}", remedy=_WHY_PRICES)
        for name in needed
        if getattr(settings, name) in {None, ""}
    )
    return problems


_WHY_PRICES = "Model, prices and cap are needed to know what an answer costs before it is asked for."
