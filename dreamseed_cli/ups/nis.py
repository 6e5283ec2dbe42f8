"""apcupsd's network information server: the `status` that `apcaccess` shows.

Every message is its length in two bytes, the high one first, and so many bytes; a length of zero ends an
answer (apcupsd's manual, "NIS Network Server Protocol"). Not the package `apcaccess`: that one reads for ever
when the connection is closed in mid-answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.source import NIS_PORT, Source, number, runtime, seconds, without_a_line

_MOST_LINES = 256
# apcupsd's include/defines.h: the bits of STATFLAG.
_CALIBRATION, _ONLINE, _ON_BATTERY, _OVERLOAD, _LOW, _REPLACE = 0x1, 0x8, 0x10, 0x20, 0x40, 0x80
_LOST, _SHUTDOWN = 0x100, 0x200
_SELF_TEST = "Automatic or explicit self test"


class Nis(Source):
    """apcupsd."""

    kind = "apcupsd"
    port = NIS_PORT
    remedy = "See whether apcupsd runs, with NETSERVER on: apcaccess status."

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Observation:
        writer.write(b"\x00\x06status")
        lines: list[str] = []
        while length := int.from_bytes(await reader.readexactly(2)):
            lines.append((await reader.readexactly(length)).decode("utf-8", "replace"))
            if len(lines) > _MOST_LINES or ":" not in lines[-1]:
                raise self.no_word(f"the answer is no answer: {lines[-1][:40]!r}")
        fields = _fields(lines)
        status = fields.get("STATUS")
        if status is None:
            raise self.no_word("the answer has no STATUS")
        if _flags(fields) & _LOST or "COMMLOST" in status:
            raise self.no_word("apcupsd has lost the UPS (COMMLOST)")
        return observation(fields, time.monotonic())


def observation(fields: Mapping[str, str], at: float) -> Observation:
    """What apcupsd's fields mean. NoWord if they tell neither the line nor the battery. Pure."""
    words, flags = fields["STATUS"].split(), _flags(fields)
    charge = number(fields.get("BCHARGE"))
    on_battery = bool(flags & _ON_BATTERY) or "ONBATT" in words
    told_to_stop = bool(flags & _SHUTDOWN) or "SHUTTING DOWN" in fields["STATUS"]
    if not (on_battery or told_to_stop or flags & _ONLINE or "ONLINE" in words):
        raise without_a_line("STATUS", fields["STATUS"])
    return Observation(
        at=at,
        status=fields["STATUS"],
        on_battery=on_battery,
        told_to_stop=told_to_stop,
        calibrating=bool(flags & _CALIBRATION) or "CAL" in words,
        self_testing=fields.get("LASTXFER") == _SELF_TEST,
        charge_percent=charge,
        runtime_s=runtime(seconds(fields.get("TIMELEFT")), charge),
        on_battery_s=number(fields.get("TONBATT")),
        load_percent=number(fields.get("LOADPCT")),
        rating_w=number(fields.get("NOMPOWER")),
        line_v=number(fields.get("LINEV")),
        low_battery=bool(flags & _LOW) or "LOWBATT" in words,
        overload=bool(flags & _OVERLOAD) or "OVERLOAD" in words,
        replace_battery=bool(flags & _REPLACE) or "REPLACEBATT" in words,
        model=fields.get("MODEL", ""),
    )


def _fields(lines: list[str]) -> dict[str, str]:
    split = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in split}


def _flags(fields: Mapping[str, str]) -> int:
    try:
        return int(fields.get("STATFLAG", "0").split()[0], 16)
    except (IndexError, ValueError):
        return 0
