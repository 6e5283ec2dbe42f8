"""Records of drills as a test wants them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from dreamseed_cli.drill.extrapolate import Extrapolated
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.timeline import Check, Event, Heartbeat, Outcome, Step, Targets

START = datetime(2025, 11, 10, 5, 30, tzinfo=UTC)
TARGETS = Targets(rpo_s=900.0, rto_s=3600.0)


def event(at_s: float, step: Step, detail: str = "") -> Event:
    """An event so many seconds after START."""
    return Event(at_s, START + timedelta(seconds=at_s), step, detail)


def events(loss_s: float = 10.0, answered_s: float = 52.5) -> tuple[Event, ...]:
    """A whole drill."""
    return (
        event(0.0, Step.BEGUN, "the whole machine"),
        event(1.0, Step.HEARTBEAT),
        event(loss_s, Step.LOSS, "kill -9 & <wipe>"),
        event(answered_s - 1, Step.RESTORED),
        event(answered_s, Step.ANSWERED),
        event(answered_s + 5, Step.CLEANED),
    )


def record(days: float = 0.0, outcome: Outcome = Outcome.PASSED, **changes: Any) -> DrillRecord:
    """A drill of so many days after START."""
    began = START + timedelta(days=days)
    known: dict[str, Any] = {
        "id": f"{began:%Y%m%dT%H%M%SZ}-lost-host-0123abcd",
        "scenario": "lost-host",
        "began": began,
        "ended": began + timedelta(minutes=2),
        "host": "box",
        "dreamseed": "1",
        "store": "b2:bucket/<prefix>",
        "backup_id": "20251110T030000Z-physical-7f3a9c01",
        "database_bytes": 31_101_340,
        "outcome": outcome,
        "rpo_s": 41.5,
        "rto_s": 42.5,
        "misses": () if outcome is Outcome.PASSED else ("RTO: 42.5 s, the target is 40 s",),
        "targets": TARGETS,
        "recovered": Heartbeat(began, "the newest heartbeat row"),
        "events": events(),
        "checks": (
            Check("schema", True, "24 definitions in 2 databases equal"),
            Check("amcheck", None, "this PostgreSQL is built without amcheck"),
        ),
        "notes": ("The clean place was given: the key.",),
        "extrapolated": Extrapolated(100.0, 10**11, 8000.0, 900.0, 8901.0),
    }
    return DrillRecord(**(known | changes))
