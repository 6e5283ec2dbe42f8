"""What every server that tells of a UPS has in common, and what it means when none does."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from typing import ClassVar

from dreamseed_cli.core.dependency import time_box
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.gateway.address import dial_address
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.observation import Observation

NIS_PORT, UPSD_PORT = 3551, 3493
_LONGEST_ANSWER = 64 * 1024
"""Bytes. The longest real ones are below 4 KiB."""
_UNITS_S = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
_HIGH_PERCENT = 50.0


class NoWord(MissingError):
    """The UPS cannot be heard: its server is away, slow, or talks nonsense, or has lost the UPS itself."""


class Source(ABC):
    """One server that tells of a UPS; every look is a connection of its own, bounded in time and size."""

    kind: ClassVar[str]
    port: ClassVar[int]
    remedy: ClassVar[str]

    def __init__(self, rules: Ups) -> None:
        self._host, self._port = rules.host, self.port if rules.port is None else rules.port
        self._bound_s = rules.answer_timeout_s
        self.place = f"{self.kind} {dial_address(self._host, self._port)}"

    async def look(self) -> Observation:
        """What the UPS tells now. NoWord, within `answer_timeout_s`, if it cannot be heard."""
        try:
            async with time_box(self._bound_s):
                return await self._ask()
        except TimeoutError as error:
            raise self.no_word(f"no answer within {self._bound_s:g} s") from error
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise self.no_word(_broken_off(error)) from error
        except OSError as error:
            raise self.no_word(f"no connection: {error.strerror or error}") from error

    async def _ask(self) -> Observation:
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=_LONGEST_ANSWER)
        try:
            return await self._converse(reader, writer)
        finally:
            writer.close()

    @abstractmethod
    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Observation:
        """Ask once, and read the whole answer."""

    def no_word(self, cause: str) -> NoWord:
        return NoWord(cause, place=self.place, remedy=self.remedy)


def without_a_line(name: str, status: str) -> NoWord:
    """A status that says neither that the mains are there nor that they are not is no word: taken for mains
    it would call off a shutdown.
    """
    return NoWord(
        f"it tells neither the line nor the battery: {status[:40]!r}",
        place=name,
        remedy="See what the UPS is at: upsc, apcaccess status.",
    )


def number(text: str | None) -> float | None:
    """The number at the beginning of a text such as `12.5 Volts`; None if there is none, or no finite one."""
    try:
        told = float((text or "").split()[0])
    except (IndexError, ValueError):
        return None
    return told if math.isfinite(told) else None


def seconds(text: str | None) -> float | None:
    """Seconds of a text such as `12.5 Minutes`, in the unit that it names; apcupsd's own are minutes."""
    told = number(text)
    unit = (text or "").split()[1:2] or ["Minutes"]
    return None if told is None else told * _UNITS_S.get(unit[0].lower(), 60.0)


def runtime(told_s: float | None, charge_percent: float | None) -> float | None:
    """The time left, if it is one: below zero means unknown, and so does none beside a high charge."""
    if told_s is None or told_s < 0:
        return None
    return None if told_s == 0 and (charge_percent or 0.0) >= _HIGH_PERCENT else told_s


def _broken_off(error: Exception) -> str:
    if isinstance(error, asyncio.IncompleteReadError):
        return "the connection was closed in mid-answer"
    return f"the answer is no answer: more than {_LONGEST_ANSWER} bytes without an end"
