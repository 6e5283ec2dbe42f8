"""`dreamseed bench`: measure the box, and compare two runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dreamseed_cli.commands.database_choice import DsnEnvOption
from dreamseed_cli.commands.options import GpusOption, JsonFlag, ProfileOption, StateDirOption
from dreamseed_cli.core.result import Result

bench_app = typer.Typer(
    help="Measure the box against the document's estimates; compare two runs.\n\n"
    "Every latency counts from the moment a request was due. A run that was not what was asked for is "
    "INVALID: exit code 1, with the reason. Ctrl-C keeps what was measured, marked partial; so does a crash, "
    "with --out.",
    invoke_without_command=True,
)

SuiteOption = Annotated[
    list[str] | None,
    typer.Option(
        "--suite",
        "-s",
        help="engine, capacity, batching, cache, db, api, load or all; may be given several times. "
        "Default: engine.",
        show_default=False,
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        help="Measure this server: http://HOST:PORT (OpenAI-compatible), or HOST:PORT (the gRPC gateway). "
        "Default: the stack that runs here, else one started for this.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="The model's name on that server. Default: its first.", show_default=False),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        help="The environment variable with the server's API key or token.",
        show_default=False,
    ),
]
CaOption = Annotated[
    Path | None,
    typer.Option("--ca", help="The authority of its certificate (PEM).", show_default=False),
]
DurationOption = Annotated[
    float | None,
    typer.Option(
        "--duration",
        min=1.0,
        max=86_400.0,
        help="Seconds of load in each cell. Default: the suite's own. The trials of `capacity` last at least "
        "four answers, or two minutes with users.",
        show_default=False,
    ),
]
RoundsOption = Annotated[
    int,
    typer.Option(
        "--rounds",
        min=1,
        max=20,
        help="Measure each cell of engine and batching in so many rounds, each with its part of the cell's "
        "length, from the second on in shuffled order: for a machine whose speed drifts.",
    ),
]
ArrivalsOption = Annotated[
    Literal["poisson", "constant"],
    typer.Option(
        "--arrivals", help="How the requests of a rate come: by chance, as from many people, or evenly."
    ),
]
RatesOption = Annotated[
    list[float] | None,
    typer.Option(
        "--rate",
        min=0.01,
        max=100_000.0,
        help="Requests a second for engine; may be given several times. Default: shares of what its sweep of "
        "streams reached, which differ from run to run: name them for runs that shall be compared.",
        show_default=False,
    ),
]
WorkloadOption = Annotated[
    str | None,
    typer.Option(
        "--workload",
        metavar="NAME|FILE|MIX",
        help="What engine, capacity and batching ask: question, feedback, recommendation, a file as these in "
        "benchmarks/workloads, or a mix: question=0.7,own.toml=0.3. Default: question.",
        show_default=False,
    ),
]
TraceOption = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        help="Replay this recorded traffic (JSON lines: at_s, prompt_tokens, output_tokens, ...; Mooncake's "
        "and BurstGPT's work too) at its own times, in place of the engine suite's sweep.",
        show_default=False,
    ),
]
SpeedOption = Annotated[
    float,
    typer.Option("--trace-speed", min=0.001, max=1000.0, help="2 replays the trace twice as fast."),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Makes arrivals and prompts: the same seed, the same load.")
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=256,
        help="Processes that make the load. Default: as many as it needs.",
        show_default=False,
    ),
]
PriceOption = Annotated[
    float | None,
    typer.Option(
        "--usd-per-kwh",
        min=0.0,
        max=1_000.0,
        help="The price of electricity, for the cost of a token. Default: the profile's.",
        show_default=False,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Write result.json, requests.csv and report.html into a folder of this run below this one.",
        show_default=False,
    ),
]


@bench_app.callback()
def bench(
    context: typer.Context,
    suite: SuiteOption = None,
    target: TargetOption = None,
    model: ModelOption = None,
    api_key_env: KeyOption = None,
    ca: CaOption = None,
    profile: ProfileOption = None,
    gpus: GpusOption = None,
    dsn_env: DsnEnvOption = None,
    duration: DurationOption = None,
    rounds: RoundsOption = 1,
    arrivals: ArrivalsOption = "poisson",
    rate: RatesOption = None,
    workload: WorkloadOption = None,
    trace: TraceOption = None,
    trace_speed: SpeedOption = 1.0,
    seed: SeedOption = 1,
    processes: ProcessesOption = None,
    usd_per_kwh: PriceOption = None,
    out: OutOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result | None:
    """Measure latency, throughput and goodput, and say which of the document's estimates hold here."""
    if context.invoked_subcommand is not None:
        return None
    import logging
    from functools import partial

    from rich.console import Console

    from dreamseed_cli.bench.campaign import Wish
    from dreamseed_cli.bench.live_view import LiveView
    from dreamseed_cli.bench.record_run import (
        Run,
        chosen_rates,
        chosen_rounds,
        chosen_suites,
        chosen_trace,
        chosen_workload,
    )
    from dreamseed_cli.bench.report.files import prepare_out, write_partial, write_report
    from dreamseed_cli.bench.report.scorecard import scorecard
    from dreamseed_cli.bench.report.terminal import result_view
    from dreamseed_cli.bench.under_test import require_fitting, spec_of
    from dreamseed_cli.core.log import configure_logging
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.database.address import resolve_dsn

    configure_logging(least=logging.WARNING)
    require_fitting(target, model=model, ca=ca, stack=profile is not None or gpus is not None)
    suites = chosen_suites(suite or ["engine"])
    resolve_dsn(None, dsn_env)
    wish = Wish(
        suites=suites,
        seed=seed,
        duration_s=duration,
        processes=processes,
        usd_per_kwh=usd_per_kwh,
        command=_said(sys.argv[1:]),
        dsn_env=dsn_env,
        arrivals=arrivals,
        rates=chosen_rates(rate or [], suites, trace=trace is not None),
        rounds=chosen_rounds(rounds, suites, trace=trace is not None),
        trace=chosen_trace(trace, trace_speed, suites),
        workload=chosen_workload(workload, suites, trace=trace is not None),
    )
    console = Console(stderr=True)
    run = Run(wish, LiveView(console), console, StateDir.locate(state_dir), api_key_env)
    if out is not None:
        prepare_out(out)
        run.save = partial(write_partial, out)
    if target is not None:
        spec = spec_of(target, model=model or "", api_key_env=api_key_env, ca_file=ca)
        result, records = run.against(spec)
    else:
        result, records = run.here(profile, gpus)
    data: dict[str, Any] = result.model_dump(mode="json")
    view = result_view(result, scorecard(result))
    if out is not None:
        try:
            written = write_report(out, result, records)
        except Exception:
            # What was measured lies nowhere else.
            console.print(*view, sep="\n")
            raise
        data["files"] = {"result": str(written.result), "report": str(written.report)}
        view.append(f"\nReport: {written.report}")
    if run.failure is not None:
        console.print(*view, sep="\n")
        raise run.failure
    missed = any(one.missed for one in result.suites)
    return Result(data, view, target_met=result.valid and not missed, interrupted=run.interrupted)


@bench_app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A run: its folder or its result.json.")],
    after: Annotated[Path, typer.Argument(help="The run to hold against it.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            help="Exit with 1 if this is so, such as 'ttft.p99>+10%' or 'output_tokens_per_s<-5%'; may be "
            "given several times.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> Result:
    """Show what changed between two runs, with 95 % intervals, and whether it may be called a change."""
    from dreamseed_cli.bench.compare import compare as compare_runs
    from dreamseed_cli.bench.gates import misses, parse_gate
    from dreamseed_cli.bench.report.comparison import comparison_view
    from dreamseed_cli.bench.report.files import read_result

    gates = [parse_gate(text) for text in fail_if or []]
    comparison = compare_runs(read_result(before), read_result(after))
    missed = misses(gates, comparison)
    data = {**comparison.model_dump(mode="json"), "missed": list(missed)}
    return Result(data, comparison_view(comparison, missed), target_met=not missed)


def _said(arguments: list[str]) -> str:
    """The command line as a result may keep it: without the userinfo that an address can carry."""
    return re.sub(r"//[^/@\s]*@", "//", shlex.join(["dreamseed", *arguments]))
