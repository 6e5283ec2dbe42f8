"""The help for people: one line with its state and its money, and a line for what is in its way."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from dreamseed_cli.supervisor.failover.snapshot import FailoverSnapshot

_STYLES = {
    **dict.fromkeys(("waiting", "starting", "stopping", "returning"), "yellow"),
    **dict.fromkeys(("failed", "spent"), "bold red"),
    "serving": "green",
    "off": "dim",
}

_AT_REST = frozenset({"off", "standby", "waiting", "failed", "spent"})
"""States in which nothing should cost anything."""


def failover_view(snapshot: FailoverSnapshot, *, now: float) -> RenderableType:
    """Its lines. now: seconds since the epoch."""
    lines = [_headline(snapshot, now)]
    style = _STYLES.get(snapshot.state, "")
    if snapshot.detail:
        lines.append(Text(f"failover {snapshot.state}: {snapshot.detail}", style=style))
    if snapshot.running and snapshot.state in _AT_REST:
        lines.append(
            Text("failover: help of an earlier run may still run and cost: stop it", style="bold red")
        )
    if snapshot.state in {"starting", "serving", "returning"}:
        lines += [
            Text(f"{engine.name} does not answer: {engine.obstacle}", style="yellow")
            for engine in snapshot.engines
            if engine.obstacle and not engine.answers
        ]
    return Group(*lines)


def money_words(snapshot: FailoverSnapshot) -> str:
    """What it cost, of which cap, at which price, and how that figure came."""
    return (
        f"${snapshot.usd_this_month:,.2f} of ${snapshot.usd_per_month:,.2f} this month "
        f"at ${snapshot.usd_per_hour:,.2f}/h ({snapshot.usd_provenance.value})"
    )


def _headline(snapshot: FailoverSnapshot, now: float) -> Text:
    where = ", ".join(f"{engine.name} {engine.url}" for engine in snapshot.engines)
    simulated = " SIMULATED" if any(engine.simulated for engine in snapshot.engines) else ""
    return Text.assemble(
        "failover  ",
        (snapshot.state, _STYLES.get(snapshot.state, "")),
        (" (dry run)" if snapshot.dry_run else "", "magenta"),
        f"  since {_clock(now - snapshot.since)}  ",
        money_words(snapshot),
        (f"  ({where})" if where else "", "dim"),
        (simulated, "magenta"),
    )


def _clock(seconds: float) -> str:
    """A duration in its largest unit: `42s`, `3m`, `2h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m" if whole < 3600 else f"{whole // 3600}h"
