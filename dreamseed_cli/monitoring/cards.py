"""The cards and the stack, as its supervisor sees them."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from dreamseed_cli.supervisor.gpu.ladder import OUT_OF_USE, CardState
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot
from dreamseed_cli.supervisor.snapshot import StackSnapshot

_FIGURES = {
    "temperature_celsius": ("Temperature", "temperature_c"),
    "power_watts": ("What it draws", "power_w"),
    "power_limit_watts": ("What it may draw", "power_limit_w"),
    "utilisation_ratio": ("The share of time in which a kernel ran", "utilisation"),
    "memory_used_bytes": ("Memory in use", "memory_used_bytes"),
    "memory_total_bytes": ("Memory", "memory_total_bytes"),
    "ecc_uncorrected": (
        "Memory errors that were not corrected since the driver loaded",
        "ecc_uncorrected",
    ),
}


def stack_metrics(snapshot: StackSnapshot) -> bytes:
    """Its cards, services and restarts. What a card does not tell is left out."""
    registry = CollectorRegistry()
    Gauge("dreamseed_stack_started_timestamp_seconds", "When the stack came up", registry=registry).set(
        snapshot.started_at
    )
    restarts = Gauge(
        "dreamseed_replica_restarts", "Restarts since the stack came up", ["replica"], registry=registry
    )
    for replica in snapshot.replicas:
        restarts.labels(replica.name).set(replica.restarts)
    service = Gauge("dreamseed_service_state", "1 for its state", ["service", "state"], registry=registry)
    for one in snapshot.services:
        service.labels(one.name, one.state).set(1)
    _cards(snapshot.cards, registry)
    return generate_latest(registry)


def _cards(cards: Sequence[CardSnapshot], registry: CollectorRegistry) -> None:
    for name, (text, field) in _FIGURES.items():
        gauge = Gauge(f"dreamseed_gpu_{name}", text, ["gpu"], registry=registry)
        for card in cards:
            value = getattr(card, field)
            if value is not None:
                gauge.labels(str(card.index)).set(value)
    state = Gauge("dreamseed_gpu_state", "1 for its state", ["gpu", "state", "reason"], registry=registry)
    usable = Gauge("dreamseed_gpu_usable", "Whether engines may use it", ["gpu"], registry=registry)
    hot = Gauge("dreamseed_gpu_hot", "Whether it has reached the profile's hot_c", ["gpu"], registry=registry)
    for card in cards:
        state.labels(str(card.index), card.state, card.reason).set(1)
        usable.labels(str(card.index)).set(CardState(card.state) not in OUT_OF_USE)
        hot.labels(str(card.index)).set(card.hot)
