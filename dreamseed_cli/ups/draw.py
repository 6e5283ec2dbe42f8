"""How long the battery carries the box, against how long its shutdown takes (§B2, §H3). Computed."""

from __future__ import annotations

from dataclasses import dataclass

from dreamseed_cli.plan.power import Power, box_power
from dreamseed_cli.plan.tables import cards
from dreamseed_cli.profile.schema import Profile

DOCUMENT_DRAW_W = 1500.0
"""§B2's full load. Its own parts draw more: see plan.power."""
DOCUMENT_UPS_W = 1500.0
"""§H3's UPS. It lasts for 10 minutes: `ups.runtime_at_rating_s`."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One load on the UPS. runtime_s is 0 for one above its rating: it drops it."""

    what: str
    draw_w: float
    runtime_s: float
    need_s: float
    """The shutdown, the host's end, and the margin."""

    @property
    def enough(self) -> bool:
        return self.runtime_s >= self.need_s


def wall_draw(profile: Profile) -> Power | None:
    """The box at full load; None where the profile does not say what it draws."""
    box = profile.box
    card = cards().get(box.gpu_model or "")
    if card is None or not box.cpu_power_w:
        return None
    return box_power(box, card)


def runtime_s(draw_w: float, rating_w: float, at_rating_s: float) -> float:
    """Of a full battery that carries its rating for so long, as if its energy were the same at every load: a
    lead battery gives more at a lower one, so this is on the safe side.
    """
    return 0.0 if draw_w > rating_w else at_rating_s * rating_w / draw_w


def runtimes(profile: Profile, need_s: float) -> list[Runtime]:
    """The document's load, the box's own, and the box with its cards limited to what the UPS carries."""
    rules = profile.ups
    rating_w = profile.box.ups_w or DOCUMENT_UPS_W
    needed_s = need_s + rules.host_down_s + rules.margin_s

    def one(what: str, draw_w: float) -> Runtime:
        return Runtime(what, draw_w, runtime_s(draw_w, rating_w, rules.runtime_at_rating_s), needed_s)

    found = [one("the document's full load (§B2)", DOCUMENT_DRAW_W)]
    power = wall_draw(profile)
    if power is None:
        return found
    found.append(one("this box at full load, from the wall", power.wall_w))
    limit_w = power.limit_for_ups_w
    if power.wall_w > rating_w and limit_w:
        found.append(one(f"with every card limited to {limit_w} W", min(rating_w, power.wall_w)))
    return found


def box_draw_w(profile: Profile) -> float | None:
    """From the wall at full load, in watts; None where the profile does not say."""
    power = wall_draw(profile)
    return None if power is None else power.wall_w
