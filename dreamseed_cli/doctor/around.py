"""What lies around the box: the UPS, systemd's units."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from dreamseed_cli.deploy.catalog import target
from dreamseed_cli.deploy.installed import Drift, compare
from dreamseed_cli.deploy.render import render
from dreamseed_cli.doctor.finding import Finding, off, ok, problem, warning
from dreamseed_cli.doctor.program import told_units
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.ups.chosen import source_of
from dreamseed_cli.ups.draw import box_draw_w
from dreamseed_cli.ups.warnings import warnings

_AREA = "around"
_UPS_UNIT = "dreamseed-ups.service"


def ups(profile: Profile) -> Iterator[Finding]:
    """What the UPS tells, and what is wrong with it; its shutdown needs a watcher to decide."""
    if profile.ups.source == "none":
        yield off(_AREA, "UPS", "the profile names none (ups.source): nothing stops this box in order")
        return
    seen = asyncio.run(source_of(profile.ups).look())
    said = warnings(seen, box_draw_w(profile), profile.box.ups_w, profile.ups)
    charge = "" if seen.charge_percent is None else f", {seen.charge_percent:.0f} %"
    if seen.on_battery:
        yield problem(_AREA, "UPS", f"on battery{charge}", "dreamseed ups status: how long it lasts.")
    elif not said:
        yield ok(_AREA, "UPS", f"{seen.model or profile.ups.source}: on mains{charge}")
    for text in said:
        yield warning(_AREA, "UPS", text, "docs/runbooks/ups.md.")


def units(profile: Profile, root: Path = Path("/")) -> Iterator[Finding]:
    """Installed units against what this profile renders, and what systemd says of them.

    None installed: the box is run by hand.
    """
    chosen = target("systemd")
    assert chosen is not None  # noqa: S101 - the catalogue has it
    found = compare(render(profile, [chosen]), root)
    if all(one.drift is Drift.ABSENT for one in found):
        yield off(_AREA, "units", "none installed (dreamseed deploy render systemd --apply)")
        return
    drifted = [one.place.name for one in found if one.drift is not Drift.SAME]
    if drifted:
        said = f"{', '.join(drifted)} differ from the profile"
        yield warning(_AREA, "units", said, "dreamseed deploy diff systemd; --apply puts them right.")
    else:
        yield ok(_AREA, "units", f"{len(found)} as the profile has them")
    there = [one.place.name for one in found if one.drift is not Drift.ABSENT]
    # Without a UPS nobody starts its watcher.
    yield from _unwell([name for name in there if profile.ups.source != "none" or name != _UPS_UNIT])


def _unwell(names: Sequence[str]) -> Iterator[Finding]:
    """Units that failed, that nothing starts at boot, or that stand still though they should run."""
    for unit in told_units(names, "ActiveState", "UnitFileState"):
        name, active, at_boot = unit["Id"], unit["ActiveState"], unit["UnitFileState"]
        if active == "failed":
            yield problem(_AREA, name, "failed", f"journalctl -u {name} says why; systemctl restart {name}.")
        elif at_boot in ("disabled", "masked"):
            said = f"{at_boot}: nothing starts it after a restart of the machine"
            yield warning(_AREA, name, said, f"If it is wanted: systemctl enable --now {name}.")
        elif at_boot == "enabled" and active == "inactive":
            yield warning(_AREA, name, "enabled, but it does not run", f"systemctl start {name}.")
