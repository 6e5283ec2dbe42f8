"""`dreamseed deploy render|diff|check`: the configuration of other systems, from the profile that runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamseed_cli.commands.options import JsonFlag, ProfileOption
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dreamseed_cli.deploy.catalog import Target
    from dreamseed_cli.deploy.render import Rendered
    from dreamseed_cli.profile.schema import Profile

deploy_app = typer.Typer(
    help="Render what other systems need from the profile: cloud, tunnel, units, database, monitoring.",
    no_args_is_help=True,
)

TargetArgument = Annotated[
    str, typer.Argument(metavar="[TARGET]", help="One target, or all of them.", show_default=False)
]
RootOption = Annotated[Path, typer.Option("--root", help="Look and put files below this folder.")]


@deploy_app.command("render")
def render(
    target: TargetArgument = "all",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write to.", show_default=False)
    ] = None,
    profile: ProfileOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Put this box's files in their place instead.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what was changed by hand.")] = False,
    root: RootOption = Path("/"),
    as_json: JsonFlag = False,
) -> Result:
    """Render files from the profile. The same profile gives the same files.

    Without --out and --apply it lists what there is. Nothing is started, nothing leaves this machine.
    """
    from dreamseed_cli.core.errors import UsageError
    from dreamseed_cli.deploy.folder import write
    from dreamseed_cli.deploy.installed import install

    if apply and out is not None:
        raise UsageError("--out and --apply are two places", remedy="Leave one of them out.")
    targets, chosen = _targets(target), _profile(profile)
    files = _rendered(chosen, targets)
    if apply:
        done = install(files, root)
        said = [f"  {place}" for place in done] or ["Everything is in its place already."]
        return Result({"installed": [str(place) for place in done]}, view=[*said, *_then(targets, chosen)])
    if out is None:
        return _listed(targets, files)
    changed = write(out, files, force=force)
    view: list[RenderableType] = [f"{counted(len(files), 'file')} in {out}, {len(changed)} new or different:"]
    view += [f"  {path}" for path in changed]
    data = {
        "folder": str(out),
        "files": [str(one.path) for one in files],
        "changed": [str(one) for one in changed],
    }
    return Result(data, view=[*view, *_then(targets, chosen)])


@deploy_app.command("diff")
def diff(
    target: TargetArgument = "all",
    profile: ProfileOption = None,
    root: RootOption = Path("/"),
    as_json: JsonFlag = False,
) -> Result:
    """Compare what is installed on this box with what would be rendered. Exit code 1 if anything differs."""
    from rich.syntax import Syntax

    from dreamseed_cli.deploy.catalog import unwanted
    from dreamseed_cli.deploy.installed import Drift, compare, left

    targets, chosen = _targets(target), _profile(profile)
    found = (*compare(_rendered(chosen, targets), root), *left(unwanted(chosen, targets), root))
    view: list[RenderableType] = []
    for one in found:
        view.append(f"{one.drift.value:10} {one.place}")
        if one.diff:
            view.append(Syntax(one.diff, "diff", background_color="default", word_wrap=True))
    if any(one.drift is Drift.LEFT for one in found):
        view.append("left: this profile does not have it. Stop and disable what it starts, then remove it.")
    rows = [{"place": str(one.place), "drift": one.drift.value, "diff": one.diff} for one in found]
    met = all(one.drift is Drift.SAME for one in found)
    return Result({"files": rows}, view=view or ["This target has no files on this box."], target_met=met)


@deploy_app.command("check")
def check(profile: ProfileOption = None, as_json: JsonFlag = False) -> Result:
    """Show what is missing before it works, in the order to get it. Exit code 1 if anything is.

    What lies in other systems is named, not looked at: nothing leaves this machine.
    """
    from rich.text import Text

    from dreamseed_cli.deploy.check import Machine, needs

    found = needs(_profile(profile), Machine.here())
    view: list[RenderableType] = []
    words = {True: "ok", False: "missing", None: "unseen"}
    for one in found:
        view.append(Text(f"{words[one.met]:8} {one.name} (§{one.section})", "dim" if one.met else ""))
        if not one.met:
            view.append(Text(f"{'':8} {one.remedy}", "italic"))
    rows = [
        {"name": one.name, "section": one.section, "met": one.met, "remedy": None if one.met else one.remedy}
        for one in found
    ]
    missing, unseen = (sum(one.met is met for one in found) for met in (False, None))
    last = f"{missing} of {len(found)} are missing." if missing else "Nothing is missing."
    if unseen:
        last += f" {unseen} cannot be seen from here: look for yourself."
    return Result({"needs": rows}, view=[*view, last], target_met=not missing)


def _profile(name: str | None) -> Profile:
    from dreamseed_cli.profile.select import choose_profile

    return choose_profile(name).profile


def _targets(name: str) -> tuple[Target, ...]:
    from dreamseed_cli.core.errors import UsageError
    from dreamseed_cli.deploy.catalog import TARGETS, target

    if name == "all":
        return TARGETS
    found = target(name)
    if found is None:
        known = ", ".join(one.name for one in TARGETS)
        raise UsageError(
            f"there is no target '{name}'", place="TARGET", remedy=f"Choose all, or one of: {known}."
        )
    return (found,)


def _rendered(profile: Profile, targets: tuple[Target, ...]) -> tuple[Rendered, ...]:
    from dreamseed_cli.deploy.render import render as to_files

    return to_files(profile, targets)


def _listed(targets: tuple[Target, ...], files: tuple[Rendered, ...]) -> Result:
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for column in ("target", "document", "what", "files"):
        table.add_column(column, no_wrap=column in ("target", "document"))
    rows = []
    for one in targets:
        names = [str(file.path) for file in files if file.target == one.name]
        table.add_row(one.name, f"§{one.section}", one.summary, str(len(names)))
        rows.append({"target": one.name, "section": one.section, "summary": one.summary, "files": names})
    return Result(
        {"targets": rows}, view=[table, "Write them with --out DIR; --apply puts this box's in place."]
    )


def _then(targets: tuple[Target, ...], profile: Profile) -> list[RenderableType]:
    from rich.text import Text

    return [Text("Then:"), *(Text(f"  {one.name}: {one.next_step(profile)}") for one in targets)]
