"""`dreamseed demo`: a newcomer's first minutes with the real serving path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dreamseed_cli.commands.options import GpusOption, JsonFlag, ProfileOption, StateDirOption
from dreamseed_cli.core.result import Figure, Provenance, Result

if TYPE_CHECKING:
    from dreamseed_cli.demo.tour import TourReport


def demo(
    profile: ProfileOption = None,
    gpus: GpusOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Start a stack of its own, ask a question, measure a burst, and stop everything again.

    Runs beside a serving stack: it has its own state folder and takes a free port.
    """
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.demo.tour import Tour, console_for_people
    from dreamseed_cli.profile.select import choose_profile
    from dreamseed_cli.supervisor.visit import with_own_stack

    choice = choose_profile(profile, gpus)
    state = StateDir(StateDir.locate(state_dir).root / "demo")
    console = console_for_people(as_json=as_json)
    report = with_own_stack(choice, state, Tour(console), console)
    figures = _figures(report)
    return Result({**_data(report), **figures}, view=_view(report, figures))


def _figures(report: TourReport) -> dict[str, Figure]:
    answer, burst, how = report.answer, report.burst, Provenance(report.stack.provenance)
    return {
        "ready_after": Figure(report.ready_after_s, "s", Provenance.MEASURED),
        "single_rate": Figure(answer.tokens / answer.latency_s, "tok/s", how),
        "single_ttft": Figure((answer.ttft_s or answer.latency_s) * 1000, "ms", how),
        "burst_rate": Figure(burst.tokens_per_s, "tok/s", how),
        "burst_ttft_median": Figure(burst.median_ttft_s * 1000, "ms", how),
        "burst_ttft_worst": Figure(burst.ttft_s[-1] * 1000, "ms", how),
    }


def _data(report: TourReport) -> dict[str, Any]:
    return {
        "profile": report.stack.profile,
        "model": report.stack.served_name,
        "answer": report.answer.text,
        "answer_tokens": report.answer.tokens,
        "burst_requests": len(report.burst.answers),
        "burst_tokens": report.burst.tokens,
        "answers_by_replica": dict(report.burst.answers_by_replica()),
    }


def _view(report: TourReport, figures: dict[str, Figure]) -> list[Any]:
    from rich.table import Table

    burst = report.burst
    title = f"{report.stack.served_name}, profile {report.stack.profile}"
    speed = Table(title=title, title_justify="left", box=None, header_style="dim")
    speed.add_column("")
    speed.add_column("time to first token", justify="right")
    speed.add_column("tokens", justify="right")
    speed.add_column("tokens per second", justify="right")
    speed.add_row(
        "one question",
        str(figures["single_ttft"]),
        str(report.answer.tokens),
        str(figures["single_rate"]),
    )
    speed.add_row(
        f"{len(burst.answers)} at once",
        f"median {figures['burst_ttft_median']}\nworst {figures['burst_ttft_worst']}",
        str(burst.tokens),
        str(figures["burst_rate"]),
    )
    places = Table(title="What ran where (stopped now)", title_justify="left", box=None, header_style="dim")
    for column in ("process", "pid", "listened on", "answers in the burst"):
        places.add_column(column, overflow="fold")
    gateway = report.stack.gateway
    places.add_row("gateway", str(gateway.pid), gateway.address or "", "")
    answers = burst.answers_by_replica()
    for replica in report.stack.replicas:
        places.add_row(
            replica.name,
            str(replica.pid or "elsewhere"),
            replica.endpoint.replace("unix:", ""),
            str(answers[replica.name]),
        )
    return [
        speed,
        places,
        "Next: [bold]dreamseed serve[/bold] keeps it running; then ask with [bold]dreamseed ask[/bold].",
    ]
