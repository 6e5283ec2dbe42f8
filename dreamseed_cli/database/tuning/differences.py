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
        """Whether the server has another value than the derived one, or will have after its next start."""
        if self.server is None:
            return False
        if self.server.plain is None or self.server.waiting not in (None, self.derived.text):
            return True
        return not math.isclose(self.server.plain, self.derived.plain, rel_tol=1e-6)

    @property
    def fixed(self) -> bool:
        """Whether the server was started with it, so that no ALTER SYSTEM changes it."""
        return self.server is not None and self.server.source in _FIXED

    @property
    def waits(self) -> bool:
        """Whether it is set already and waits for a restart. Another value may wait, too."""
        if self.server is None or not self.server.pending:
            return False
        return self.server.waiting in (None, self.derived.text)

    @property
    def appliable(self) -> bool:
        """Whether `--apply` would change it."""
        return self.server is not None and self.differs and not self.fixed and not self.waits

    @property
    def change(self) -> str | None:
        """What the derived value needs before it holds: None where it holds already."""
        if self.server is None:
            return "the server has no such setting"
        if not self.differs:
            return None
        if self.fixed:
            return "fixed at start"
        return "set; restart" if self.waits else self.server.change


def compare(
    derived: Sequence[Derived], document: Sequence[Wanted], server: Mapping[str, ServerSetting]
) -> tuple[Difference, ...]:
    """One row for each derived setting."""
    wanted = {one.name: one for one in document}
    return tuple(Difference(one, wanted.get(one.name), server.get(one.name)) for one in derived)
