"""The cards for people: one table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot

_STYLES = {
    "ok": "green",
    **dict.fromkeys(("suspect", "ending", "freeing", "restarting", "resetting"), "yellow"),
    **dict.fromkeys(("quarantined", "lost"), "bold red"),
}
_NOTHING = "-"
_GIB = 1 << 30


def cards_table(snapshots: Sequence[CardSnapshot]) -> Table:
    """One row a card. Figures are measured; what a card does not tell is a dash."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("card", "name", "state"):
        table.add_column(column, no_wrap=True)
    for column in ("util", "memory", "power", "temp"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("throttle")
    table.add_column("detail", overflow="fold")
    for snapshot in snapshots:
        table.add_row(
            str(snapshot.index),
            snapshot.name or _NOTHING,
            Text(snapshot.state, style=_STYLES.get(snapshot.state, "")),
            _NOTHING if snapshot.utilisation is None else f"{snapshot.utilisation:.0%}",
            _memory(snapshot),
            _power(snapshot),
            _temperature(snapshot),
            _throttle(snapshot),
            Text(_detail(snapshot)),
        )
    return table


def _memory(card: CardSnapshot) -> str:
    if card.memory_used_bytes is None or card.memory_total_bytes is None:
        return _NOTHING
    return f"{card.memory_used_bytes / _GIB:.1f}/{card.memory_total_bytes / _GIB:.1f} GiB"


def _power(card: CardSnapshot) -> str:
    if card.power_w is None:
        return _NOTHING
    limit = "" if card.power_limit_w is None else f"/{card.power_limit_w:.0f}"
    return f"{card.power_w:.0f}{limit} W"


def _temperature(card: CardSnapshot) -> Text:
    if card.temperature_c is None:
        return Text(_NOTHING)
    return Text(f"{card.temperature_c} °C", style="bold red" if card.hot else "")


def _throttle(card: CardSnapshot) -> str:
    if card.throttle is None:
        return _NOTHING
    return ", ".join(card.throttle) or "none"


def _detail(card: CardSnapshot) -> str:
    hot = f"hot: {card.temperature_c} °C" if card.hot else ""
    ecc = f"{card.ecc_uncorrected} uncorrectable memory errors" if card.ecc_uncorrected else ""
    return ". ".join(part.removesuffix(".") for part in (card.detail, hot, ecc, card.advice) if part)
