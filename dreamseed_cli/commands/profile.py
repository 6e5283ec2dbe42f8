"""`dreamseed profile list|show|check`: the shipped profiles, and whether one can start on its box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.options import JsonFlag
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from dreamseed_cli.plan.check import Check
    from dreamseed_cli.profile.schema import Profile

profile_app = typer.Typer(
    help="List, show and check profiles: what this box is and runs.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="A shipped profile's name, or a TOML file.")]


@profile_app.command("list")
def list_profiles(as_json: JsonFlag = False) -> Result:
    """List the shipped profiles."""
    from rich.table import Table

    from dreamseed_cli.profile.load import load_profile, shipped_dir, shipped_names

    profiles = [load_profile(name) for name in shipped_names()]
    table = Table("profile", "engine", "replicas", "description", box=None, header_style="dim")
    table.caption, table.caption_justify = f"files: {shipped_dir()}", "left"
    rows = [_summary(profile) for profile in profiles]
    for row in rows:
        table.add_row(row["name"], row["engine"], str(row["replicas"]), row["description"])
    return Result({"profiles": rows, "directory": str(shipped_dir())}, view=[table])


@profile_app.command("show")
def show(name: NameArgument, as_json: JsonFlag = False) -> Result:
    """Show a profile's file; with --json, every value with its defaults filled in."""
    from rich.syntax import Syntax

    from dreamseed_cli.profile.load import load_profile, profile_path

    profile = load_profile(name)
    text = profile_path(name).read_text(encoding="utf-8")
    # As text its lines keep their length: what is piped into a file is a profile again.
    view = Syntax(text, "toml", background_color="default").highlight(text)
    view.rstrip()
    return Result(profile.model_dump(mode="json"), view=[view])


@profile_app.command("check")
def check(name: NameArgument, as_json: JsonFlag = False) -> Result:
    """Validate a profile; compute whether vLLM can start it, and the gateway listen. Exit code 2 if not.

    What it says about costs is checked against the price book, too.
    """
    from dreamseed_cli.costsim.profile_costs import profile_errors
    from dreamseed_cli.gateway.address import profile_listen_errors
    from dreamseed_cli.plan.check import check_profile, require_none, start_errors
    from dreamseed_cli.profile.load import load_profile

    profile = load_profile(name)
    require_none([*start_errors(profile), *profile_listen_errors(profile), *profile_errors(profile)])
    outcome = check_profile(profile)
    lost = _lost(profile)
    view = [*_words(profile, outcome), *(f"{name} is off: {means}." for name, means in lost.items())]
    return Result({**_figures(profile, outcome), "off": lost}, view=view)


def _summary(profile: Profile) -> dict[str, Any]:
    engine = profile.engine
    kind = f"{engine.kind} ({engine.device})" if engine.kind == "vllm" else engine.kind
    replicas = len(engine.urls) if engine.kind == "remote" else engine.replicas
    return {
        "name": profile.name,
        "engine": kind,
        "replicas": replicas,
        "description": profile.description,
    }


def _lost(profile: Profile) -> dict[str, str]:
    """The services that are off, each with what that means; in the words of `dreamseed status`."""
    from dreamseed_cli.supervisor.service_words import standings

    return {standing.name: standing.means for standing in standings(profile) if standing.state == "off"}


def _figures(profile: Profile, outcome: Check) -> dict[str, Any]:
    data: dict[str, Any] = {"profile": profile.name, "startable": True, "unchecked": outcome.unchecked}
    if outcome.fit is not None:
        data["computed_per_card"] = {
            "weights_bytes": round(outcome.fit.weights),
            "kv_cache_bytes": round(outcome.fit.kv_cache),
            "kv_bytes_per_token": round(outcome.fit.kv_per_token),
            "kv_cache_tokens": outcome.fit.kv_tokens,
        }
    return data


def _words(profile: Profile, outcome: Check) -> list[str]:
    words = [f"[green]Profile '{profile.name}' is valid.[/green]"]
    if outcome.unchecked:
        words.append(f"[yellow]Not computed:[/yellow] {outcome.unchecked}.")
    if outcome.fit is not None:
        fit = outcome.fit
        words.append(
            f"Per card (computed): {fit.weights / 1e9:.1f} GB of weights, {fit.kv_cache / 1e9:.1f} GB of "
            f"KV cache = {fit.kv_tokens:,} tokens of {fit.kv_per_token / 1e6:.2f} MB."
        )
    return words
