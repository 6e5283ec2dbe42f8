"""`dreamseed doctor`: is this box well?"""

from __future__ import annotations

from dreamseed_cli.commands.options import JsonFlag, ProfileOption, StateDirOption
from dreamseed_cli.core.result import Result


def doctor(
    profile: ProfileOption = None, state_dir: StateDirOption = None, as_json: JsonFlag = False
) -> Result:
    """Look at the box and its profile from end to end: ok, warning, problem, each with what to do.

    Reads only, starts nothing, and takes five seconds at most. Exit code 1 if there is a problem.
    """
    from collections import Counter

    from rich.text import Text

    from dreamseed_cli.core.counting import counted
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.doctor.engine import NVML_WITHIN_S
    from dreamseed_cli.doctor.examine import examine
    from dreamseed_cli.doctor.finding import Level
    from dreamseed_cli.doctor.looks import looks
    from dreamseed_cli.profile.select import choose_profile, visible_cards

    choice = choose_profile(profile, cards=lambda: visible_cards(NVML_WITHIN_S))
    found = examine(looks(choice.profile, StateDir.locate(state_dir)))
    styles = {Level.OK: "green", Level.OFF: "dim", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
    view = [Text(f"profile {choice.profile.name}: {choice.why}", "dim")]
    for one in found:
        style = styles[one.level]
        view.append(Text.assemble((f"{one.level.value:8}", style), f"{one.area}: {one.name}: {one.said}"))
        if one.remedy:
            view.append(Text(f"{'':8}-> {one.remedy}", style))
    counts = Counter(one.level for one in found)
    uncounted = {Level.OK: "ok", Level.OFF: "off"}  # no nouns: they have no plural
    said = ", ".join(counted(counts[one], one, uncounted.get(one, "")) for one in Level if counts[one])
    data = {"profile": choice.profile.name, "findings": [one.to_data() for one in found]}
    return Result(data, view=[*view, Text(said)], target_met=not counts[Level.PROBLEM])
