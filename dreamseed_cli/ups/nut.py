"""NUT's upsd: the variables of one UPS, in its line protocol (RFC 9271)."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Mapping

from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.source import UPSD_PORT, Source, number, runtime, without_a_line

_MOST_LINES = 1024
_ERRORS = {
    "DATA-STALE": "NUT's driver has lost the UPS (DATA-STALE)",
    "DRIVER-NOT-CONNECTED": "NUT's driver does not run (DRIVER-NOT-CONNECTED)",
    "UNKNOWN-UPS": "upsd knows no UPS of this name (UNKNOWN-UPS)",
    "ACCESS-DENIED": "upsd refuses this host or user (ACCESS-DENIED)",
}


class Nut(Source):
    """upsd."""

    kind = "upsd"
    port = UPSD_PORT
    remedy = "See whether upsd and its driver run, and ups.name: upsc -l."

    def __init__(self, rules: Ups) -> None:
        super().__init__(rules)
        self._name = rules.name
        self.place = f"{self.place} {rules.name}"

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Observation:
        writer.write(f"LIST VAR {self._name}\n".encode())
        self._expect(await self._line(reader), "BEGIN", "LIST", "VAR", self._name)
        variables: dict[str, str] = {}
        for _ in range(_MOST_LINES):
            words = await self._line(reader)
            if words[:2] == ["END", "LIST"]:
                break
            self._expect(words[:2], "VAR", self._name)
            variables[" ".join(words[2:3])] = " ".join(words[3:])
        if "ups.status" not in variables:
            raise self.no_word("the answer has no ups.status")
        return observation(variables, time.monotonic())

    async def _line(self, reader: asyncio.StreamReader) -> list[str]:
        line = (await reader.readuntil(b"\n")).decode("utf-8", "replace")
        try:
            words = shlex.split(line)
        except ValueError:
            words = []
        if words[:1] == ["ERR"]:
            code = words[1] if len(words) > 1 else "?"
            raise self.no_word(_ERRORS.get(code, f"upsd answers ERR {code}"))
        if not words:
            raise self.no_word(f"the answer is no answer: {line[:40]!r}")
        return words

    def _expect(self, words: list[str], *wanted: str) -> None:
        if words != list(wanted):
            raise self.no_word(f"the answer is no answer: {' '.join(words)[:40]!r}")


def observation(variables: Mapping[str, str], at: float) -> Observation:
    """What NUT's variables mean. NoWord if they tell neither the line nor the battery. Pure."""
    status = variables["ups.status"].split()
    if not {"OL", "OB", "FSD"} & set(status):
        raise without_a_line("ups.status", variables["ups.status"])
    charge = number(variables.get("battery.charge"))
    return Observation(
        at=at,
        status=variables["ups.status"],
        on_battery="OB" in status,
        calibrating="CAL" in status,
        self_testing="TEST" in status or variables.get("ups.test.result", "").lower() == "in progress",
        charge_percent=charge,
        runtime_s=runtime(number(variables.get("battery.runtime")), charge),
        load_percent=number(variables.get("ups.load")),
        rating_w=number(variables.get("ups.realpower.nominal")),
        cut_delay_s=number(variables.get("ups.delay.shutdown")),
        line_v=number(variables.get("input.voltage")),
        low_battery="LB" in status,
        told_to_stop="FSD" in status,
        overload="OVER" in status,
        replace_battery="RB" in status,
        model=variables.get("ups.model") or variables.get("device.model", ""),
    )
