"""The derived settings beside the document's and the server's. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dreamseed_cli.database.settings import ServerSetting, Wanted
from dreamseed_cli.database.tuning.derive import Derived

_FIXED = {"command line", "environment variable", "override"}
"""Sources that ALTER SYSTEM does not reach (pg_settings.source)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting: as derived for the box, as the document has it, as the server has it.

    document and server are None where there is no such setting.
    """

    derived: Derived
    document: Wanted | None
    server: ServerSetting | None

    @property
    def differs(self) -> bool:
        """Whether the server has another value than the derived one."""
        if self.server is None or self.server.plain is None:
            return self.server is not None
        return not math.isclose(self.server.plain, self.derived.plain, rel_tol=1e-6)

    @property
    def fixed(self) -> bool:
        """Whether the server was started with it, so that no ALTER SYSTEM changes it."""
        return self.server is not None and self.server.source in _FIXED

    @property
    def appliable(self) -> bool:
        """Whether `--apply` would change it."""
        return self.server is not None and self.differs and not self.fixed and not self.server.pending

    @property
    def change(self) -> str | None:
        """What the derived value needs before it holds: None where it holds already."""
        if self.server is None:
            return "the server has no such setting"
        if not self.differs:
            return None
        if self.fixed:
            return "fixed at start"
        return "set; restart" if self.server.pending else self.server.change


def compare(
    derived: Sequence[Derived], document: Sequence[Wanted], server: Mapping[str, ServerSetting]
) -> tuple[Difference, ...]:
    """One row for each derived setting."""
    wanted = {one.name: one for one in document}
    return tuple(Difference(one, wanted.get(one.name), server.get(one.name)) for one in derived)
