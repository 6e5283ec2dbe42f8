"""All looks at once, each within a bound, none able to spoil the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.doctor.finding import Finding, problem, warning

Look = Callable[[], Iterable[Finding]]
WITHIN_S = 3.5
"""With the program's own start, a second and more on a slow machine, it is less than five."""


def examine(looks: Mapping[tuple[str, str], Look], within_s: float = WITHIN_S) -> list[Finding]:
    """Their findings in the order of `looks`, whose keys are area and name. Never raises, and is bounded."""
    return asyncio.run(_all(looks, within_s))


async def _all(looks: Mapping[tuple[str, str], Look], within_s: float) -> list[Finding]:
    found = await asyncio.gather(*(_one(where, look, within_s) for where, look in looks.items()))
    return [finding for findings in found for finding in findings]


async def _one(where: tuple[str, str], look: Look, within_s: float) -> list[Finding]:
    area, name = where
    try:
        return await asyncio.wait_for(in_daemon_thread(lambda: list(look())), within_s)
    except TimeoutError:
        return [warning(area, name, f"no answer within {within_s:g} s", "Look at it by itself: it hangs.")]
    except DreamseedError as error:
        return [problem(area, name, one.cause, one.remedy or f"See {one.place}.") for one in error.causes()]
    except PermissionError as error:
        said = f"may not be looked at: {error.filename or error}"
        return [warning(area, name, said, "Run it as the user who serves, or let this one read that.")]
    except Exception as error:  # noqa: BLE001 - one look's fault must not hide what the others found
        return [warning(area, name, f"could not be looked at: {error!r}", "Report it: it is a bug.")]
