"""What the engines need: packages, cards, the plan, the port."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dreamseed_cli.core import nvml
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.doctor import driver
from dreamseed_cli.doctor.finding import Finding, off, ok, problem, warning
from dreamseed_cli.plan.check import check_profile, start_errors
from dreamseed_cli.plan.power import box_power
from dreamseed_cli.plan.tables import shipped
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.orphans import find_orphans
from dreamseed_cli.supervisor.preflight import machine_needs, require_port
from dreamseed_cli.supervisor.state import read_supervisor

_AREA = "engine"
NVML_WITHIN_S = 2.4
"""With the second that killing it may take it is less than a look has: else nobody would be told that the
driver hangs, and the process that asks it would stay.
"""


def packages(profile: Profile, state: StateDir) -> Iterator[Finding]:
    """Everything that `serve` would refuse to start without."""
    needs = list(machine_needs(profile, state, NVML_WITHIN_S))
    for need in needs:
        yield problem(_AREA, need.place or "needs", need.cause, need.remedy)
    if not needs:
        yield ok(_AREA, "needs", "packages, programs and variables are there")


def cards(profile: Profile) -> Iterator[Finding]:
    """The driver and its cards against the profile's box."""
    engine = profile.card_engine
    if engine is None:
        yield off(_AREA, "cards", "the engines of this profile use none here")
        return
    loaded = driver.version()
    if loaded is None:
        remedy = "Install it, then restart the machine."
        yield problem(_AREA, "driver", "NVIDIA's driver is not loaded", remedy)
        return
    seen = nvml.look(NVML_WITHIN_S)
    yield from driver.look(engine, loaded, seen.cuda)
    if seen.fault:
        yield problem(_AREA, "cards", seen.fault, "nvidia-smi; a driver that hangs: docs/runbooks/gpu.md.")
        return
    yield _cards(profile, seen)
    yield from _limits(profile, seen.limits_w)


def compiler(profile: Profile) -> Iterator[Finding]:
    """What engines on cards are compiled with."""
    engine = profile.card_engine
    if engine is not None:
        yield from driver.compiler(engine)


def _cards(profile: Profile, looked: nvml.Seen) -> Finding:
    """Their number, then their model. A model that the table of cards does not know is not compared."""
    wanted, name, seen = profile.box.gpus, profile.box.gpu_model, looked.names
    if len(seen) < wanted:
        said = "; ".join((f"the profile has {wanted}, NVML sees {len(seen)}", *looked.lost))
        return problem(_AREA, "cards", said, "nvidia-smi; a card that is missing: docs/runbooks/gpu.md.")
    card = shipped().cards.get(name or "")
    if card is not None and any(one != (card.nvml_name or card.title) for one in seen[:wanted]):
        return warning(
            _AREA,
            "cards",
            f"{', '.join(seen)}: the profile is for {wanted} x {name}, and so are its plan and its power",
            "Name the card in box.gpu_model, then dreamseed plan: whether the model fits it.",
        )
    return ok(_AREA, "cards", f"{', '.join(seen)} (profile: {wanted} x {name})")


def _limits(profile: Profile, seen_w: Sequence[float]) -> Iterator[Finding]:
    """The cards' power limits against the profile's, which plan, power and bill reckon with."""
    wanted_w = profile.box.gpu_power_limit_w
    over = [limit_w for limit_w in seen_w[: profile.box.gpus] if wanted_w is not None and limit_w > wanted_w]
    if over and wanted_w is not None:
        said = f"a card may draw {max(over):,.0f} W, the profile has {wanted_w:,.0f}"
        remedy = f"sudo nvidia-smi -pl {wanted_w:g}; deploy's unit dreamseed-power does it at boot."
        yield warning(_AREA, "power limit", said, remedy)


def plan(profile: Profile) -> Iterator[Finding]:
    """Whether the engine can start on its box, computed."""
    errors = start_errors(profile)
    for error in errors:
        yield problem(_AREA, "plan", error.cause, error.remedy)
    if not errors:
        unchecked = check_profile(profile).unchecked
        yield ok(_AREA, "plan", unchecked or "the model fits (computed)")


def power(profile: Profile) -> Iterator[Finding]:
    """What the box draws against what its supply and its UPS carry, computed (§B2, §H3)."""
    card = shipped().cards.get(profile.box.gpu_model or "")
    if card is None or not (profile.box.psu_w or profile.box.ups_w):
        yield off("power", "budget", "the profile names no supply and no UPS")
        return
    figures = box_power(profile.box, card)
    bad = False
    for name, margin, limit in (
        ("supply", figures.psu_margin_w, figures.limit_for_psu_w),
        ("UPS", figures.ups_margin_w, figures.limit_for_ups_w),
    ):
        if margin is not None and margin < 0:
            bad = True
            yield warning(
                "power",
                name,
                f"{-margin:,.0f} W short at full load (computed)",
                f"box.gpu_power_limit_w = {limit}, which a unit of deploy sets at boot; or a larger {name}.",
            )
    if not bad:
        yield ok("power", "budget", f"{figures.wall_w:,.0f} W at full load fit (computed)")


def port(profile: Profile, state: StateDir) -> Iterator[Finding]:
    """The gateway's: free, or held by this very stack, also by what a killed supervisor left of it."""
    address = f"{profile.gateway.host}:{profile.gateway.port}"
    record = read_supervisor(state)
    listens = record.gateway if record is not None and record.gateway else address
    if record is not None and record.alive():
        yield ok("stack", "port", f"the running stack listens on {listens}")
    elif left := [one for one in find_orphans(state) if one.record.role == "gateway"]:
        yield ok("stack", "port", f"{left[0]}, left by a killed supervisor, listens on {listens}")
    else:
        require_port(profile.gateway)
        yield ok("stack", "port", f"{address} is free")
