"""`dreamseed estimates`: the document's figures, and what arithmetic and the newest results say to each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.options import JsonFlag
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from dreamseed_cli.estimates.results import Results
    from dreamseed_cli.estimates.verdict import Verdict


def estimates(
    estimate_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Show this one, with its computation.", show_default=False),
    ] = None,
    section: Annotated[
        str | None,
        typer.Option("--section", help="Only those of B (with B1 to B4), F3, Goal, ...", show_default=False),
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option(
            "--verdict",
            help="Only holds, falls_short, cannot_be_told, better, contradicted, simulated or not_measured.",
            show_default=False,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", help="A folder of results. Default: the shipped ones.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", help="A file of figures. Default: the document's, as shipped.", show_default=False
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> Result:
    """List the document's figures with the newest result for each, and a verdict computed from both.

    A figure holds, falls short, cannot be told, is better, is contradicted by arithmetic, or is not measured.
    A simulated result does not count as measured: its verdict says so.
    """
    from dreamseed_cli.estimates.load import load_book, shipped_dir
    from dreamseed_cli.estimates.results import Results, read_results
    from dreamseed_cli.estimates.verdict import judge_all

    book = load_book(file)
    shipped = shipped_dir() / "results"
    found = read_results(results or shipped) if results or shipped.is_dir() else Results()
    verdicts = judge_all(book, found)
    if estimate_id is not None:
        return _one(verdicts, estimate_id)
    return _many(_chosen(verdicts, section, verdict), found)


def _one(verdicts: list[Verdict], estimate_id: str) -> Result:
    from dreamseed_cli.core.spelling import did_you_mean
    from dreamseed_cli.estimates.view import verdict_view

    for one in verdicts:
        if one.estimate.id == estimate_id:
            return Result(one.to_data(), view=verdict_view(one))
    remedy = did_you_mean(estimate_id, (one.estimate.id for one in verdicts)) or "See dreamseed estimates."
    raise UsageError("no figure has this id", place=estimate_id, remedy=remedy)


def _many(verdicts: list[Verdict], results: Results) -> Result:
    from dreamseed_cli.estimates.view import counts, verdicts_view

    data: dict[str, Any] = {
        "estimates": [one.to_data() for one in verdicts],
        "counts": counts(verdicts),
        "skipped_files": [{"file": name, "reason": reason} for name, reason in results.skipped],
        "other_files": list(results.reports),
    }
    return Result(data, view=verdicts_view(verdicts, results))


def _chosen(verdicts: list[Verdict], section: str | None, word: str | None) -> list[Verdict]:
    """Those of a section and of a verdict; UsageError if there is no such section or verdict."""
    from dreamseed_cli.estimates.verdict import Word

    if section is not None:
        wanted = section.removeprefix("§").upper()
        verdicts = [one for one in verdicts if one.estimate.section.upper().startswith(wanted)]
        if not verdicts:
            raise UsageError(
                "no figure is of this section", place="--section", remedy="Give A to J, B1, F3, or Goal."
            )
    if word is not None:
        known = [one.value for one in Word]
        if word.replace("-", "_") not in known:
            raise UsageError(
                f"there is no verdict '{word}'", place="--verdict", remedy=f"Give {', '.join(known)}."
            )
        verdicts = [one for one in verdicts if one.word == word.replace("-", "_")]
    return verdicts
