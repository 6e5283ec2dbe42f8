"""Figures of the last seconds, from two readings of the box's metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dreamseed_cli.top.first_tokens import FirstTokens
from dreamseed_cli.top.reading import Reading

CLASSES = ("premium", "standard", "batch")


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One priority class, between two readings. ttft_s: by quantile, of the last minutes (FirstTokens)."""

    name: str
    waiting: int
    requests_per_s: float
    ttft_s: Mapping[str, float | None]
    rejected_per_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Between two readings. cache_hits: the share of lookups, 0 to 1. Ages in seconds."""

    classes: tuple[ClassFigures, ...]
    tokens_per_s: float
    cache_hits: float | None
    rpo_s: float | None
    backup_age_s: float | None
    on_battery: bool | None
    battery: float | None


def figures(before: Reading, now: Reading, first_tokens: FirstTokens, wall_clock: float) -> Figures:
    """wall_clock: seconds since the epoch, for ages. A counter that began anew counts from zero."""
    hits = _grown(before, now, "dreamseed_cache_lookups_total", result="hit")
    shared = _grown(before, now, "dreamseed_cache_lookups_total", result="shared")
    bypassed = _grown(before, now, "dreamseed_cache_lookups_total", result="bypass")
    lookups = _grown(before, now, "dreamseed_cache_lookups_total") - bypassed
    backup = now.value("dreamseed_backup_last_success_timestamp_seconds")
    battery = now.value("dreamseed_ups_on_battery")
    tokens = _grown(before, now, "gen_ai_client_token_usage_sum", gen_ai_token_type="output")  # noqa: S106 - no password
    return Figures(
        classes=tuple(_of_class(before, now, first_tokens, name) for name in CLASSES),
        tokens_per_s=tokens / _elapsed(before, now),
        cache_hits=(hits + shared) / lookups if lookups > 0 else None,
        rpo_s=now.value("dreamseed_backup_rpo_seconds"),
        backup_age_s=None if backup is None else wall_clock - backup,
        on_battery=None if battery is None else battery == 1,
        battery=now.value("dreamseed_ups_charge_ratio"),
    )


def _of_class(before: Reading, now: Reading, first_tokens: FirstTokens, name: str) -> ClassFigures:
    elapsed = _elapsed(before, now)
    return ClassFigures(
        name=name,
        waiting=int(now.total("dreamseed_queue_length", priority=name)),
        requests_per_s=_grown(before, now, "gen_ai_server_request_duration_seconds_count", priority=name)
        / elapsed,
        ttft_s=first_tokens.quantiles(now, name),
        rejected_per_s=_grown(before, now, "dreamseed_rejections_total", priority=name) / elapsed,
    )


def _elapsed(before: Reading, now: Reading) -> float:
    return max(now.at - before.at, 1e-9)


def _grown(before: Reading, now: Reading, name: str, **labels: str) -> float:
    was, is_now = before.total(name, **labels), now.total(name, **labels)
    return is_now - was if is_now >= was else is_now
