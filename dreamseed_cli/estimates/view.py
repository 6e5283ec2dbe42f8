"""Verdicts for people: a table of many with their counts, or one whole. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.render import wrapped
from dreamseed_cli.estimates.outcome import figure, say
from dreamseed_cli.estimates.results import Results
from dreamseed_cli.estimates.verdict import Verdict, Word

STYLES = {
    Word.HOLDS: "green",
    Word.BETTER: "bold green",
    Word.FALLS_SHORT: "bold red",
    Word.CANNOT_BE_TOLD: "yellow",
    Word.CONTRADICTED: "red",
    Word.SIMULATED: "magenta",
    Word.NOT_MEASURED: "dim",
}
_NOTHING = "-"


def verdicts_view(verdicts: Sequence[Verdict], results: Results) -> list[RenderableType]:
    """A table in the document's order, the counts, and the files that were not read."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("id, section\nquantity", overflow="fold")
    table.add_column("document", overflow="fold")
    table.add_column("newest\nprovenance", overflow="fold")
    table.add_column("verdict\ndevice, date", overflow="fold")
    for one in verdicts:
        table.add_row(*_row(one))
    return [table, wrapped(Text(f"\n{counts_text(verdicts)}")), *_skipped(results)]


def verdict_view(one: Verdict) -> list[RenderableType]:
    """One figure whole, with the sentence that shows the computation."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in (
        ("quantity", one.estimate.quantity),
        ("document", " · ".join([figure(one.estimate), *_fields(one)])),
        ("newest", newest_text(one)),
        ("provenance", _provenance(one)),
        ("device, date", _place(one)),
        ("checked by", ", ".join(one.estimate.check)),
    ):
        facts.add_row(name, Text(value))
    title = Text.assemble(
        (f"{one.estimate.id} (§{one.estimate.section}): ", "bold"), (_word(one), STYLES[one.word])
    )
    return [title, facts, wrapped(Text(f"\n{one.sentence}"))]


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many of each verdict."""
    found = Counter(one.word for one in verdicts)
    return {word.value: found[word] for word in Word}


def counts_text(verdicts: Sequence[Verdict]) -> str:
    """`151 figures: 30 holds, 26 contradicted, 95 not measured (of these settings 43, ...)`."""
    found = [f"{number} {name.replace('_', ' ')}" for name, number in counts(verdicts).items() if number]
    unmeasured = [one.estimate for one in verdicts if one.word is Word.NOT_MEASURED]
    known = {
        "settings": sum(one.check == ("setting",) for one in unmeasured),
        "prices": sum(one.check == ("price",) for one in unmeasured),
        "without an instrument": sum(one.needs is not None for one in unmeasured),
    }
    aside = ", ".join(f"{name} {number}" for name, number in known.items() if number)
    aside = f" (of these {aside})" if aside else ""
    return f"{counted(len(verdicts), 'figure')}: {', '.join(found) or 'none'}{aside}"


def newest_text(one: Verdict) -> str:
    """The newest result or computation, in its own unit."""
    return f"{say(one.number.value)} {one.number.unit}".strip() if one.number else _NOTHING


def _row(one: Verdict) -> list[Text]:
    estimate = one.estimate
    verdict = Text(_word(one), style=STYLES[one.word])
    return [
        Text.assemble((estimate.id, "bold"), f" §{estimate.section}\n", (estimate.quantity, "dim")),
        Text(figure(estimate)),
        Text.assemble(newest_text(one), "\n", (_provenance(one), "dim")) if one.number else Text(_NOTHING),
        Text.assemble(verdict, "\n", (_place(one), "dim")) if one.result else verdict,
    ]


def _word(one: Verdict) -> str:
    return one.word.value.replace("_", " ")


def _provenance(one: Verdict) -> str:
    return one.number.provenance.value if one.number else _NOTHING


def _place(one: Verdict) -> str:
    if one.result is None:
        return _NOTHING
    return f"{one.result.device}, {one.result.date:%Y-%m-%d}"


def _fields(one: Verdict) -> list[str]:
    return [f"{name.replace('_', ' ')} {say(value)}" for name, value in one.estimate.fields.items()]


def _skipped(results: Results) -> list[RenderableType]:
    """What may be a mistake, with its reason; of what is none, the number."""
    lines = [f"not counted: {name}: {reason}" for name, reason in results.skipped]
    if results.reports:
        number = len(results.reports)
        files = counted(number, "more file answers", "more files answer")
        lines.append(f"{files} other questions (no `measurements`): --json names them")
    return [wrapped(Text(line, style="dim")) for line in lines]
