"""`dreamseed cost-sim`: what it will cost, whether it will hold, and when the next card is due."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.options import JsonFlag
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Result
from dreamseed_cli.costsim.prices.age import MAX_AGE_DAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from rich.console import RenderableType

    from dreamseed_cli.costsim.decisions.box_power import BoxPower


PAGE_SWEEP = "users=1e3..1e6"
"""§F3's rows, which the page of --out draws unless another sweep is asked for."""


class BookName(StrEnum):
    """The shipped price books."""

    CURRENT = "current"
    DOCUMENT = "document"


class CurrencyName(StrEnum):
    """What amounts are shown in."""

    USD = "USD"
    KRW = "KRW"


def cost_sim(
    users: Annotated[
        int | None, typer.Option("--users", "-u", help="Registered users.", show_default=False)
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option(help="Of them online in the busiest minute. Default: read off §F3.", show_default=False),
    ] = None,
    profile: Annotated[
        str,
        typer.Option("--profile", "-p", help="The box: a shipped profile's name or a TOML file."),
    ] = "rtx5090x3",
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=0, help="This many cards instead of the profile's.", show_default=False),
    ] = None,
    book: Annotated[BookName, typer.Option(help="Today's prices, or the document's.")] = BookName.CURRENT,
    prices: Annotated[
        Path | None, typer.Option(help="A TOML file with prices of your own.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An assumption or a price, such as ai_share=0.02 or electricity-flat=0.15; may be given "
            "several times.",
            show_default=False,
        ),
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(
            help="A result of dreamseed bench: how fast a card is (default: the roofline), and how well the "
            "loads that nothing was fitted to are foretold.",
            show_default=False,
        ),
    ] = None,
    power_record: Annotated[
        Path | None,
        typer.Option(
            "--power-record",
            help="The box's outages and energy, as dreamseed ups wrote them. Default: those of this box, "
            "STATE/ups/power.jsonl, if there are any.",
            show_default=False,
        ),
    ] = None,
    currency: Annotated[CurrencyName, typer.Option(help="For tables and page.")] = CurrencyName.USD,
    sweep: Annotated[
        str | None,
        typer.Option(help="§F3's table beside ours, such as users=1e3..1e6.", show_default=False),
    ] = None,
    optimise: Annotated[
        bool, typer.Option("--optimise", help="Look for the cheapest box that keeps the SLO.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(metavar="USD", help="US dollars a month; exit code 1 above it.", show_default=False),
    ] = None,
    hours: Annotated[
        float, typer.Option(min=0, max=24, help="Hours to simulate of the busiest hour's load; 0: none.")
    ] = 1.0,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the Monte Carlo.")] = 10_000,
    price_age: Annotated[
        int, typer.Option("--price-age", min=0, help="Name the prices that are older than this, in days.")
    ] = MAX_AGE_DAYS,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same answer.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write result.json, bill.csv, sweep.csv and report.html into this folder.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> Result:
    """Compute a month's bill with its range, simulate the busiest hour, and say when to buy what.

    Exit code 1 if the SLO is not kept, the budget is exceeded, or a bench result is foretold badly.
    `dreamseed estimates --results FOLDER` shows what a folder of --out says to the document's figures.
    """
    import datetime as dt

    from dreamseed_cli import __version__
    from dreamseed_cli.costsim.answer import answer, steps
    from dreamseed_cli.costsim.money import Currency
    from dreamseed_cli.costsim.question import Asked, question
    from dreamseed_cli.costsim.report.files import Stamp, prepare, write_answer
    from dreamseed_cli.costsim.report.loads import validation_view
    from dreamseed_cli.costsim.report.terminal import study_view, sweep_view
    from dreamseed_cli.costsim.report.words import Money
    from dreamseed_cli.costsim.study import Effort

    most = _budget(budget)
    _check(users, sweep, bench, budget=budget, optimise=optimise)
    asked = Asked(
        users=users or 0,
        concurrent=concurrent,
        profile=profile,
        gpus=gpus,
        book=book.value,
        prices=prices,
        settings=settings or [],
        bench=bench,
        power=_power(power_record),
    )
    one = question(asked)
    if out is not None:
        prepare(out)
    now = dt.datetime.now(dt.UTC)
    effort = Effort(
        draws=draws,
        hours=hours,
        seed=seed,
        optimise=optimise,
        whole_day=out is not None,
        max_price_age_days=price_age,
    )
    span = PAGE_SWEEP if sweep is None and out is not None else sweep
    with _progress(steps(one, effort, sweep=span, with_study=users is not None)) as tell:
        found = answer(
            one,
            effort,
            sweep=span,
            with_study=users is not None,
            budget=most,
            today=now.date(),
            tell=tell,
        )
    data: dict[str, Any] = {**found.to_data()}
    money = Money(Currency(currency.value), one.book.rate)
    view: list[RenderableType] = []
    if found.validation is not None:
        view += validation_view(found.validation)
    if found.study is not None:
        view += study_view(found.study, money)
    if found.rows:
        view += sweep_view(found.rows, money)
    if found.within_budget is False:
        view.append(f"\nIt costs more than the budget of {money(most)}.")
    if out is not None:
        stamp = Stamp(now.isoformat(timespec="seconds"), _said(), f"dreamseed {__version__}")
        data["files"] = [str(path) for path in write_answer(out, found, money, stamp)]
        view.append(f"\nReport: {out / 'report.html'}")
    return Result(data, view, target_met=found.met)


def _budget(said: str | None) -> Decimal | None:
    """US dollars, exactly as they are written: no float. UsageError if they are no amount."""
    from dreamseed_cli.costsim.money import amount

    if said is None:
        return None
    try:
        return amount(said)
    except UsageError as error:
        raise UsageError(error.cause, place="--budget", remedy=error.remedy) from error


def _check(
    users: int | None, sweep: str | None, bench: Path | None, *, budget: str | None, optimise: bool
) -> None:
    """UsageError for options that need --users."""
    if users is not None:
        return
    remedy = "Say how many: --users 1000000."
    if sweep is None and bench is None:
        raise UsageError("nobody is counted", place="--users", remedy=remedy)
    if budget is not None or optimise:
        place = "--budget" if budget is not None else "--optimise"
        raise UsageError("it is about one number of users", place=place, remedy=remedy)


def _power(named: Path | None) -> BoxPower | None:
    """What this box recorded; None if it did not. UsageError for a file that was named and is no record."""
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.costsim.decisions.box_power import box_power
    from dreamseed_cli.ups.journal import UpsFolder
    from dreamseed_cli.ups.records import read_power

    path = named or UpsFolder.of(StateDir.locate()).power_log
    entries = read_power(path)
    if named is not None and not entries:
        raise UsageError(
            "there is no record of power" if path.exists() else "there is no such file",
            place=f"--power-record {named}",
            remedy="Name a power.jsonl of dreamseed ups watch.",
        )
    return box_power(entries, str(path)) if entries else None


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, as long as that is a terminal, that says which step is being worked on."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=steps, completed=-1)
        yield lambda step: shown.update(task, description=step, advance=1)


def _said() -> str:
    return shlex.join(["dreamseed", *sys.argv[1:]])
