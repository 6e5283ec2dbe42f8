"""What is wrong with a UPS while nothing has happened yet, each with its figures. Pure."""

from __future__ import annotations

from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.observation import Observation

_WORDS = {
    "NOBATT": "there is no battery in the UPS (NOBATT): the box goes off the moment the mains fail",
    "BYPASS": "the UPS passes the mains through (BYPASS): its battery does not stand in for them",
    "OFF": "the UPS says that it is switched off (OFF)",
}

_DISCHARGES = (
    "the UPS says that it is on mains and discharges (OL DISCHRG): a calibration, or a model that says so"
    " when the mains have failed, of which no cut is seen: set `onlinedischarge` in ups.conf, usbhid-ups(8)"
)


def warnings(seen: Observation, draw_w: float | None, ups_w: float | None, rules: Ups) -> list[str]:
    """draw_w: what the box draws from the wall at full load (computed). ups_w: the rating in the profile, for
    a UPS that does not tell its own.
    """
    said = []
    if seen.replace_battery:
        said.append("the battery must be replaced: the UPS says so itself, and may not last at all")
    if seen.overload or (seen.load_percent or 0.0) > 100:
        load = f"{seen.load_percent:.0f} %" if seen.load_percent is not None else "more than its rating"
        said.append(
            f"the UPS is overloaded ({load} of its rating): it may drop the load at the next power cut"
        )
    delay_s = seen.cut_delay_s
    if rules.cycle and delay_s is not None and delay_s < rules.host_down_s:
        said.append(
            f"the UPS switches off {delay_s:g} s after `ups.cycle` (ups.delay.shutdown), and the host takes "
            f"{rules.host_down_s:g} s (ups.host_down_s) to end: give it a longer delay, upsrw."
        )
    status = seen.status.split()
    said += [text for word, text in _WORDS.items() if word in status]
    if "DISCHRG" in status and "OL" in status and not (seen.calibrating or seen.self_testing):
        said.append(_DISCHARGES)
    rating_w = seen.rating_w or ups_w
    if draw_w is not None and rating_w is not None and draw_w > rating_w:
        said.append(
            f"at full load the box draws {draw_w:,.0f} W (computed), {draw_w - rating_w:,.0f} W more than "
            f"the UPS's {rating_w:,.0f} W: it drops the load the moment the mains fail. Lower the cards' "
            "power limit: dreamseed ups plan."
        )
    return said
