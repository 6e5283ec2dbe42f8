"""The cards' power limits through NVML, in a process of its own: any call there may hang for ever.

`python -m dreamseed_cli.ups.power_limit show WATTS` prints the limits above so much, as JSON; `... lower
WATTS` lowers them; `... restore JSON` sets them back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.nvml import explained, on_each
from dreamseed_cli.ups.command import run_command
from dreamseed_cli.ups.journal import UpsFolder

if TYPE_CHECKING:
    from pynvml import NVMLError

_WITHIN_S = 10.0


class PowerLimits:
    """What was lowered is on disk, so that the next one gives back what a watcher that died had lowered.

    The watcher itself goes by what it knows: the disk may take nothing.
    """

    def __init__(self, folder: UpsFolder) -> None:
        self._folder = folder
        self._before: Mapping[str, int] | None = folder.limits()

    @property
    def lowered(self) -> bool:
        """Whether limits are to be given back."""
        return self._before is not None

    async def lower(self, watts: float) -> Mapping[str, int]:
        """Lower every card's limit to this, or to its least; what they were, in milliwatts by UUID.

        They are on disk before the first is set. What is on record already stays: a card that is lowered
        tells its lowered limit. FailedError where that is not allowed, there is no driver, or it hangs.
        """
        earlier = self._before
        before = await self._above(watts)
        self._keep({**before, **(earlier or {})})
        try:
            await run_command([*_ARGV, "lower", f"{watts:g}"], _WITHIN_S)
        except DreamseedError:
            # One that a card refused has set the others back; one that was killed may not have.
            if await self._above(watts) == before:
                self._keep(earlier)
            raise
        return before

    async def restore(self) -> None:
        """Give back what was lowered. FailedError if that cannot be done."""
        if self._before is not None:
            await run_command([*_ARGV, "restore", json.dumps(self._before)], _WITHIN_S)
            self._keep(None)

    async def _above(self, watts: float) -> dict[str, int]:
        said = await run_command([*_ARGV, "show", f"{watts:g}"], _WITHIN_S)
        return msgspec.json.decode(said, type=dict[str, int])

    def _keep(self, limits: Mapping[str, int] | None) -> None:
        self._before = limits
        self._folder.keep_limits(limits)


_ARGV = (sys.executable, "-m", "dreamseed_cli.ups.power_limit")


def main(arguments: Sequence[str]) -> int:
    """The process. Exit code 4 with a sentence where a card refuses."""
    try:
        if arguments[0] == "restore":
            _restore(json.loads(arguments[1]))
        else:
            milliwatts = round(float(arguments[1]) * 1000)
            found = _lower(milliwatts, only_show=arguments[0] == "show")
            sys.stdout.write(json.dumps(found))
    except DreamseedError as error:
        sys.stdout.write(str(error))
        return error.exit_code
    return 0


def _lower(milliwatts: int, *, only_show: bool) -> dict[str, int]:
    """All that are above, or none: one that refuses has those before it set back. What they were.

    A card that is lost takes no limit, and keeps nobody from lowering the others.
    """
    import pynvml

    before: dict[str, int] = {}

    def lower(handle: Any) -> None:
        limit = int(pynvml.nvmlDeviceGetPowerManagementLimit(handle))
        lowest = max(milliwatts, int(pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)[0]))
        if limit > lowest:
            uuid = str(pynvml.nvmlDeviceGetUUID(handle))
            if not only_show:
                pynvml.nvmlDeviceSetPowerManagementLimit(handle, lowest)
            before[uuid] = limit

    try:
        on_each(lower)
    except pynvml.NVMLError as error:
        if before and not only_show:
            _restore(before)
        raise _refused(error) from error
    return before


def _restore(limits: Mapping[str, int]) -> None:
    import pynvml

    def give_back(handle: Any) -> None:
        limit = limits.get(str(pynvml.nvmlDeviceGetUUID(handle)))
        if limit is not None:
            pynvml.nvmlDeviceSetPowerManagementLimit(handle, limit)

    try:
        on_each(give_back)
    except pynvml.NVMLError as error:
        raise _refused(error) from error


def _refused(error: NVMLError) -> FailedError:
    return FailedError(
        f"NVML: {explained(error)}",
        place="ups.shed_power_limit_w",
        remedy="Who may set it: docs/runbooks/ups.md.",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
