"""The screen: a pure function from what is known to 24 lines of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.gateway.metrics import FIRST_TOKEN_S
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.view import clock, state_text
from dreamseed_cli.top.figures import Figures
from dreamseed_cli.top.first_tokens import SHOWN, WINDOW_S

_MOST_ROWS = 5
"""Of replicas and of cards each, so that all fits in 24 lines; a line says how many there are more."""
_NOTHING = "-"
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Seen:
    """What is shown. selected: index of the replica that keys act on. notice: what came of the last key.

    away: why nothing newer is known; empty again once the supervisor has answered.
    """

    snapshot: StackSnapshot
    figures: Figures | None
    selected: int = 0
    notice: str = ""
    away: str = ""


def screen(seen: Seen) -> RenderableType:
    """All of it."""
    now = seen.snapshot
    simulated = now.provenance is Provenance.SIMULATED
    title = Text.assemble(
        (f"dreamseed · {now.profile}", "bold"),
        (" · SIMULATED", "bold magenta") if simulated else "",
        f" · {now.gateway.state} {now.gateway.address or ''} · up {clock(now.taken_at - now.started_at)}",
        overflow="ellipsis",
        no_wrap=True,
    )
    parts: list[RenderableType] = [title, _replicas(now, seen.selected)]
    parts += _more(len(now.replicas), "engines")
    parts += (
        [_classes(seen.figures, now.provenance)] if seen.figures else [Text("figures in two seconds", "dim")]
    )
    parts += [_cards(now.cards), *_more(len(now.cards), "cards")] if now.cards else []
    parts.append(_services(now))
    parts += [_safety(seen.figures)] if seen.figures else []
    parts.append(_footer(seen))
    return Group(*parts)


def _replicas(now: StackSnapshot, selected: int) -> Table:
    table = _table("", "engine", "state", "for", right=("run", "wait", "tok/s", "KV", "failed", "restarts"))
    # Keys act on the selected one, so it is among those that are shown.
    selected = min(selected, len(now.replicas) - 1)
    start = max(0, selected - _MOST_ROWS + 1)
    for index, one in enumerate(now.replicas[start : start + _MOST_ROWS], start):
        table.add_row(
            ">" if index == selected else " ",
            one.name,
            state_text(one.word),
            clock(now.taken_at - one.since),
            _count(one.running),
            _count(one.waiting),
            _NOTHING if one.tokens_per_s is None else f"{one.tokens_per_s:,.0f}",
            _NOTHING if one.kv_usage is None else f"{one.kv_usage:.0%}",
            str(one.failed),
            str(one.restarts),
        )
    return table


def _classes(now: Figures, provenance: Provenance) -> Group:
    table = _table("class", right=("waiting", "requests/s", *(f"TTFT {name}" for name in SHOWN), "refused/s"))
    for one in now.classes:
        table.add_row(
            one.name,
            str(one.waiting),
            f"{one.requests_per_s:,.1f}",
            *(_first_token(one.ttft_s[name]) for name in SHOWN),
            f"{one.rejected_per_s:,.1f}",
        )
    hits = _NOTHING if now.cache_hits is None else f"{now.cache_hits:.0%}"
    words = (
        f"{now.tokens_per_s:,.0f} tok/s in all ({provenance.value})",
        f"cache hits {hits}",
        f"TTFT of the last {WINDOW_S / 60:.0f} min",
    )
    return Group(table, Text(" · ".join(words), "dim italic", overflow="ellipsis", no_wrap=True))


def _first_token(seconds: float | None) -> str:
    if seconds is None:
        return _NOTHING
    return f"> {FIRST_TOKEN_S[-1]:g} s" if seconds == math.inf else f"{seconds * 1000:,.0f} ms"


def _cards(cards: Sequence[CardSnapshot]) -> Table:
    table = _table("card", "state", right=("util", "memory", "power", "temp"))
    for one in cards[:_MOST_ROWS]:
        memory = one.memory_used_bytes
        table.add_row(
            str(one.index),
            state_text(one.state),
            _NOTHING if one.utilisation is None else f"{one.utilisation:.0%}",
            _NOTHING if memory is None else f"{memory / _GIB:.1f} GiB",
            _NOTHING if one.power_w is None else f"{one.power_w:,.0f} W",
            _NOTHING if one.temperature_c is None else f"{one.temperature_c} C",
        )
    return table


def _services(now: StackSnapshot) -> Text:
    """What is not as it should be first: a line of 80 columns does not hold all of them."""
    text = Text("services  ", overflow="ellipsis", no_wrap=True)
    for one in sorted(now.services, key=lambda one: one.state == "ready"):
        text.append(f"{one.name} ").append_text(state_text(one.state)).append("  ")
    return text if now.services else text.append("none", "dim")


def _safety(now: Figures) -> Text:
    words = [f"backup {_age(now.backup_age_s)} old" if now.backup_age_s is not None else "no backup known"]
    if now.rpo_s is not None:
        words.append(f"{'all' if now.rpo_s == math.inf else f'{_age(now.rpo_s)} of'} work would be lost")
    text = Text(f"data      {', '.join(words)}", overflow="ellipsis", no_wrap=True)
    if now.on_battery is not None:
        charge = "" if now.battery is None else f" {now.battery:.0%}"
        text.append("   UPS ").append(
            *(("ON BATTERY", "bold red") if now.on_battery else ("on mains", "green"))
        )
        text.append(charge)
    return text


def _footer(seen: Seen) -> Text:
    if said := seen.away or seen.notice:
        return Text(said, "yellow", overflow="ellipsis", no_wrap=True)
    return Text("q quit · up/down choose an engine · d drain it or take it back · r restart it", "dim")


def _more(count: int, what: str) -> Iterator[Text]:
    if count > _MOST_ROWS:
        yield Text(f"  and {count - _MOST_ROWS} more {what}: dreamseed status", "dim")


def _table(*left: str, right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in left:
        table.add_column(column, no_wrap=True)
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _count(value: int | None) -> str:
    return _NOTHING if value is None else str(value)


def _age(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"
