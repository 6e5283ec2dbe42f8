"""`dreamseed ups watch|status|test|plan`: stop the box in order when the battery will not last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.options import JsonFlag, ProfileOption, StateDirOption
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dreamseed_cli.profile.schema import Profile
    from dreamseed_cli.ups.journal import Shutdown

ups_app = typer.Typer(help="Stop the box in order when the battery will not last.", no_args_is_help=True)


@ups_app.command("watch")
def watch(
    host_step: Annotated[
        bool | None,
        typer.Option(
            "--host-step/--no-host-step",
            help="Whether the UPS and the host are told at the end. Default: only under systemd.",
            show_default=False,
        ),
    ] = None,
    profile: ProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Watch the UPS in the foreground, and stop the box in order when it has to; JSON lines on stderr.

    Ends with SIGTERM, with Ctrl-C (exit code 130), or when a shutdown has come to its end, with exit code 1
    if a step of it failed. One that is past its point of no return is finished first.
    """
    import signal

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.ups.best_effort import log_to_stderr
    from dreamseed_cli.ups.chosen import source_of
    from dreamseed_cli.ups.draw import box_draw_w
    from dreamseed_cli.ups.host import in_unit
    from dreamseed_cli.ups.journal import StepState, UpsFolder
    from dreamseed_cli.ups.steps import Steps
    from dreamseed_cli.ups.view import shutdown_view
    from dreamseed_cli.ups.watch import Sizes, Watcher, run_watcher

    chosen = _profile(profile)
    source, state = source_of(chosen.ups), StateDir.locate(state_dir)
    state.create_root()
    folder = UpsFolder.of(state)
    steps = Steps(state, chosen, host=in_unit() if host_step is None else host_step)
    sizes = Sizes(box_draw_w(chosen), chosen.box.ups_w)
    log_to_stderr()
    with folder.only_watcher():
        ended = run_watcher(lambda: Watcher(source, chosen.ups, steps, folder, sizes))
    if ended is signal.SIGINT:
        raise KeyboardInterrupt
    if isinstance(ended, signal.Signals):
        return Result({"stopped_by": ended.name})
    good = all(step.state is not StepState.FAILED for step in ended.steps)
    return Result(_shutdown_data(ended), [shutdown_view(ended)], target_met=good)


@ups_app.command("status")
def status(
    profile: ProfileOption = None, state_dir: StateDirOption = None, as_json: JsonFlag = False
) -> Result:
    """Show what the UPS tells now, what is wrong with it, and the energy it delivered.

    Exit code 1 on battery or with a warning, 3 when the UPS cannot be heard.
    """
    import asyncio
    from dataclasses import asdict

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.ups.chosen import source_of
    from dreamseed_cli.ups.draw import box_draw_w
    from dreamseed_cli.ups.journal import UpsFolder
    from dreamseed_cli.ups.records import read_power
    from dreamseed_cli.ups.view import status_view
    from dreamseed_cli.ups.warnings import warnings

    chosen = _profile(profile)
    if chosen.ups.source == "none":
        said = "No UPS is configured (ups.source): nothing tells of a power cut, nothing stops this box."
        return Result({"source": "none", "warnings": []}, [said])
    seen = asyncio.run(source_of(chosen.ups).look())
    said_wrong = warnings(seen, box_draw_w(chosen), chosen.box.ups_w, chosen.ups)
    records = read_power(UpsFolder.of(StateDir.locate(state_dir)).power_log)
    outages = [record for record in records if record.kind == "outage"]
    energy_kwh = sum(record.energy_kwh or 0.0 for record in records if record.kind == "energy")
    data = {
        "source": chosen.ups.source,
        "seen": {name: value for name, value in asdict(seen).items() if name != "at"},
        "warnings": said_wrong,
        "outages": len(outages),
        "energy_kwh": {"value": round(energy_kwh, 6), "provenance": "computed"},
    }
    view: list[RenderableType] = [status_view(seen), *(f"Warning: {text}" for text in said_wrong)]
    view.append(f"{len(outages)} outages and {energy_kwh:.3f} kWh (computed) on record.")
    return Result(data, view, target_met=not (seen.on_battery or said_wrong))


@ups_app.command("test")
def rehearsal(
    real_services: Annotated[
        bool,
        typer.Option(
            "--real-services/--dry-run",
            help="Stop the stack as a shutdown does, all but the host; or only look.",
        ),
    ] = False,
    profile: ProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Rehearse the shutdown: ask everybody it needs and print its timeline; or do all but the host's step.

    With --real-services the stack is down afterwards, and how long it took is what the watcher goes by. Exit
    code 1 if somebody did not answer, or a step failed or had to be forced.
    """
    import asyncio
    from dataclasses import asdict

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.ups.best_effort import log_to_stderr
    from dreamseed_cli.ups.journal import StepState, UpsFolder
    from dreamseed_cli.ups.rehearse import hear, rehearse, timeline
    from dreamseed_cli.ups.steps import Steps
    from dreamseed_cli.ups.view import heard_view, shutdown_view, timeline_view

    chosen, state = _profile(profile), StateDir.locate(state_dir)
    state.create_root()
    folder, steps = UpsFolder.of(state), Steps(state, chosen, host=False)
    if not real_services:
        heard, planned = asyncio.run(hear(state, chosen)), timeline(steps, folder)
        data: dict[str, Any] = {
            "heard": [asdict(one) for one in heard],
            "timeline": [asdict(one) for one in planned],
            "measured_s": folder.measured_s(),
        }
        return Result(data, [heard_view(heard), timeline_view(planned)], all(one.ok for one in heard))
    log_to_stderr()
    with folder.only_watcher():
        done = asyncio.run(rehearse(steps, folder))
    good = all(step.state in {StepState.DONE, StepState.SKIPPED} for step in done.steps)
    return Result(_shutdown_data(done), [shutdown_view(done)], target_met=good)


@ups_app.command("plan")
def plan(
    profile: ProfileOption = None, state_dir: StateDirOption = None, as_json: JsonFlag = False
) -> Result:
    """Compute how long the battery carries the box, against how long its shutdown takes (§B2, §H3).

    Exit code 1 if it does not last for it.
    """
    from dataclasses import asdict

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.ups.draw import runtimes
    from dreamseed_cli.ups.journal import UpsFolder
    from dreamseed_cli.ups.steps import Steps
    from dreamseed_cli.ups.view import plan_view

    chosen, state = _profile(profile), StateDir.locate(state_dir)
    measured_s = UpsFolder.of(state).measured_s()
    need_s = measured_s or sum(step.box_s for step in Steps(state, chosen, host=False).all())
    found = runtimes(chosen, need_s)
    data = {
        "shutdown_s": {"value": round(need_s, 3), "provenance": "measured" if measured_s else "computed"},
        "host_down_s": chosen.ups.host_down_s,
        "margin_s": chosen.ups.margin_s,
        "loads": [{**asdict(one), "enough": one.enough, "provenance": "computed"} for one in found],
    }
    how = "the longest of the last ones, measured" if measured_s else "all its boxes: never measured"
    said = (
        f"The shutdown takes {need_s:.1f} s ({how}), the host {chosen.ups.host_down_s:.0f} s, "
        f"and {chosen.ups.margin_s:.0f} s of margin."
    )
    own = found[1:2] or found
    return Result(data, [plan_view(found), said], target_met=all(one.enough for one in own))


def _profile(name: str | None) -> Profile:
    from dreamseed_cli.profile.select import choose_profile

    return choose_profile(name).profile


def _shutdown_data(shutdown: Shutdown) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(shutdown), "took_s": round(shutdown.took_s, 3)}
