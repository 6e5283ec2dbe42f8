"""How failures are noticed, repaired and bridged (§H): watchdog and restarts, the cards, failover."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from dreamseed_cli.profile.part import Count, Fraction, Part, Positive, check_addresses

_START_A100 = ("gcloud", "compute", "instances", "start", "gpu-failover-1", "--zone=us-central1-a")
_STOP_A100 = ("gcloud", "compute", "instances", "stop", "gpu-failover-1", "--zone=us-central1-a")


class Supervision(Part):
    """When an engine counts as hung, and how it is restarted (§H1)."""

    hang_after_s: Annotated[float, Field(gt=0, le=15)] = 10.0
    """How long an engine with work may generate nothing before it is ejected and restarted."""
    canary_every_s: Positive = 8.0
    """How often an idle engine must generate one token."""
    canary_timeout_s: Annotated[float, Field(gt=0, le=15)] = 5.0
    """How long it may take for it."""
    slow_factor: Annotated[float, Field(gt=1)] = 4.0
    """How many times slower than its usual pace a token may come before an engine counts as degraded."""
    first_backoff_s: Positive = 1.0
    """The wait before the first restart; each failure in a row doubles it, with jitter."""
    longest_backoff_s: Positive = 300.0
    stable_after_s: Positive = 300.0
    """Ready for so long, and earlier failures are forgotten."""
    most_failures: Count = 6
    """Failures in a row after which a replica has failed: an operator is needed, restarts are not."""

    @model_validator(mode="after")
    def _backoff_grows(self) -> Self:
        if self.first_backoff_s > self.longest_backoff_s:
            raise ValueError("first_backoff_s is longer than longest_backoff_s")
        return self


class GpuCare(Part):
    """The ladder of GPU recovery (§H1 step 1-3), through NVML."""

    watch: bool = True
    """Read the cards' telemetry; on a machine without NVIDIA's driver there is nothing to read."""
    poll_s: Positive = 5.0
    call_timeout_s: Positive = 5.0
    """How long one reading may take: NVML hangs when a card or its driver does."""
    memory_free_timeout_s: Positive = 30.0
    """How long a card's memory may take to become free after our processes on it have ended."""
    allow_reset: bool = False
    """Whether `nvidia-smi --gpu-reset` may be tried. It needs root, and ends whatever else uses the card."""
    reset_timeout_s: Positive = 60.0
    hot_c: Annotated[int, Field(ge=40, le=120)] = 90
    """The temperature in Celsius from which on a card is shown as too hot."""


class Failover(Part):
    """Engines elsewhere that help out while too few of this box are ready (§H1 step 4)."""

    urls: tuple[str, ...] = ()
    """OpenAI-compatible addresses without `/v1`, over the tunnel (`http://` to loopback and Tailscale only);
    none: no failover."""
    model: str | None = None
    """The model's name there; None: the engine's served_name."""
    api_key_env: str | None = None
    """The environment variable that holds their API key."""
    below: Fraction = 0.5
    """Help is called while less than this share of the local replicas is ready ..."""
    after_s: Annotated[float, Field(ge=0)] = 120.0
    """... for this long."""
    back_after_s: Annotated[float, Field(ge=0)] = 600.0
    """How long enough of them must be ready before the help is sent home."""
    start: tuple[str, ...] = _START_A100
    """The command that starts the help, as an argument list without a shell; empty: it always runs."""
    stop: tuple[str, ...] = _STOP_A100
    """The command that stops it, so that it costs nothing any more."""
    hook_timeout_s: Positive = 180.0
    """How long either command may take."""
    ready_within_s: Positive = 900.0
    """How long the help may take to its first token before it counts as failed and is stopped."""
    dry_run: bool = False
    """Only log the commands, run none of them."""
    usd_per_hour: Annotated[float, Field(ge=0)] = 1.5
    """What the help costs while it runs: a GCP A100 Spot instance, by default; check your own price."""
    usd_per_month: Annotated[float, Field(ge=0)] = 100.0
    """What it may cost in a calendar month; once spent, it is stopped until the next."""

    @model_validator(mode="after")
    def _urls_are_http(self) -> Self:
        check_addresses(self.urls)
        return self

    @model_validator(mode="after")
    def _what_is_started_is_stopped(self) -> Self:
        if self.start and not self.stop:
            raise ValueError("start is set but stop is empty: what is started would cost for ever")
        return self
