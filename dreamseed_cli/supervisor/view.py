"""A snapshot for people: one panel with the gateway, a table of replicas and one of services."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.supervisor.failover.view import failover_view
from dreamseed_cli.supervisor.gpu.view import cards_table
from dreamseed_cli.supervisor.snapshot import (
    ReloadOutcome,
    ReplicaSnapshot,
    RollingSnapshot,
    ServiceSnapshot,
    StackSnapshot,
)

_STYLES = {
    **dict.fromkeys(
        ("starting", "draining", "drained", "restarting", "unusable", "stopping", "degraded"), "yellow"
    ),
    **dict.fromkeys(("failed", "hung", "unreachable", "quarantined"), "bold red"),
    **dict.fromkeys(("off", "outbox", "stopped"), "dim"),
    "ready": "green",
}
_NOTHING = "-"
_WAY_OUT = "Ctrl-C drains and stops it, a second one kills"


def stack_view(snapshot: StackSnapshot, *, spinner: Spinner | None = None) -> RenderableType:
    """The whole stack. spinner: of whoever runs it and looks on: it moves beside the activity while there is
    something to wait for, and the way to end it stands below.
    """
    simulated = snapshot.provenance is Provenance.SIMULATED
    title = f"dreamseed · {snapshot.profile}" + (" · SIMULATED" if simulated else "")
    parts: list[RenderableType] = [_headline(snapshot), _activity(snapshot, spinner)]
    if snapshot.replicas:
        parts.append(_replica_table(snapshot))
    parts.extend(line for replica in snapshot.replicas for line in _remarks(replica, snapshot.taken_at))
    if snapshot.rolling is not None and snapshot.rolling.finished_at is None:
        parts.append(_rolling(snapshot.rolling))
    if snapshot.cards:
        parts.append(cards_table(snapshot.cards))
    if snapshot.failover is not None and snapshot.failover.shown:
        parts.append(failover_view(snapshot.failover, now=snapshot.taken_at))
    if snapshot.services:
        parts.append(_service_table(snapshot))
    parts.extend(line for service in snapshot.services for line in _service_remarks(service))
    parts.extend(Text(note, style="yellow") for note in snapshot.notes)
    return Panel(
        Group(*parts),
        title=title,
        title_align="left",
        subtitle=None if spinner is None else _WAY_OUT,
        subtitle_align="right",
        border_style="magenta" if simulated else "blue",
    )


def state_text(state: str) -> Text:
    """A state's word in its colour."""
    return Text(state, style=_STYLES.get(state, ""))


def reload_view(outcome: ReloadOutcome) -> RenderableType:
    """What a reload took, and what needs a restart."""
    if not outcome.taken and not outcome.needs_restart:
        return Text("Nothing in the profile has changed.")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("setting", "was", "is in the profile", ""):
        table.add_column(column, overflow="fold")
    for changes, word, style in (
        (outcome.taken, "taken", "green"),
        (outcome.needs_restart, "needs a restart", "yellow"),
    ):
        for change in changes:
            table.add_row(change.path, str(change.before), str(change.after), Text(word, style=style))
    restart = [Text(f"To take the rest: {outcome.restart_with}")] if outcome.needs_restart else []
    return Group(table, *restart)


def clock(seconds: float) -> str:
    """A duration as people read it: `42s`, `3m07s`, `2h05m`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _headline(snapshot: StackSnapshot) -> Text:
    gateway = snapshot.gateway
    address = gateway.address or "not listening yet"
    return Text.assemble(
        (snapshot.served_name, "bold"),
        f"  gateway {address} ({gateway.state})  up {clock(snapshot.uptime_s)}\n",
        (f"profile {snapshot.profile}: {snapshot.why}", "dim"),
    )


def _activity(snapshot: StackSnapshot, spinner: Spinner | None) -> RenderableType:
    text = Text(snapshot.activity)
    if spinner is None or snapshot.activity == "serving":
        return text
    spinner.update(text=text)
    return spinner


def _replica_table(snapshot: StackSnapshot) -> Table:
    caption = f"figures: {snapshot.provenance.value}"
    table = Table(box=None, pad_edge=False, header_style="dim", caption=caption, caption_justify="left")
    for column in ("replica", "state", "for"):
        table.add_column(column, no_wrap=True)
    for column in ("run", "wait", "tok/s", "KV", "calls", "failed", "restarts"):
        table.add_column(column, justify="right")
    with_cards = any(replica.cards for replica in snapshot.replicas)
    if with_cards:
        table.add_column("cards")
    for replica in snapshot.replicas:
        cards = [",".join(str(card) for card in replica.cards)] if with_cards else []
        table.add_row(*_row(replica, snapshot.taken_at), *cards)
    return table


def _row(replica: ReplicaSnapshot, now: float) -> list[RenderableType]:
    state = state_text(replica.word)
    return [
        replica.name,
        state,
        clock(now - replica.since),
        _count(replica.running),
        _count(replica.waiting),
        _NOTHING if replica.tokens_per_s is None else f"{replica.tokens_per_s:,.0f}",
        _NOTHING if replica.kv_usage is None else f"{replica.kv_usage:.0%}",
        str(replica.finished),
        str(replica.failed),
        str(replica.restarts),
    ]


def _rolling(rolling: RollingSnapshot) -> Text:
    left = [name for name in rolling.wanted if name not in (*rolling.done, rolling.current)]
    then = f", then {', '.join(left)}" if left else ""
    return Text(f"restarting {rolling.current or 'the first'} by wish{then}", style="yellow")


def _service_table(snapshot: StackSnapshot) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("service", "state", "for", "mode"):
        table.add_column(column, no_wrap=True)
    table.add_column("at", overflow="fold")
    for service in snapshot.services:
        table.add_row(
            service.name,
            Text(service.state, style=_STYLES.get(service.state, "")),
            _NOTHING if service.since is None else clock(snapshot.taken_at - service.since),
            service.mode,
            service.endpoint or _NOTHING,
        )
    return table


def _service_remarks(service: ServiceSnapshot) -> list[Text]:
    """What is missing without it, and why it is away."""
    style = _STYLES.get(service.state, "")
    remarks = (
        [Text(f"{service.name} {service.reason}: {service.detail}", style=style)] if service.detail else []
    )
    if service.means:
        remarks.append(Text(f"{service.name}: {service.means}", style="dim" if style == "dim" else "yellow"))
    return remarks


def _count(value: int | None) -> str:
    return _NOTHING if value is None else str(value)


def _remarks(replica: ReplicaSnapshot, now: float) -> list[Text]:
    """Why a replica failed, or how far its start has come."""
    if replica.detail:
        again = "" if replica.retry_at is None else f" (again in {clock(replica.retry_at - now)})"
        words = f"{replica.name} {replica.reason}{again}: {replica.detail}"
        return [Text(words, style=_STYLES.get(replica.state, ""))]
    if replica.last_log:
        return [Text(f"{replica.name} │ {replica.last_log}", style="dim", no_wrap=True, overflow="ellipsis")]
    return []
