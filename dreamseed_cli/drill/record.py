"""A drill as it is kept: what was measured, by whom, with a signature over all of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from dreamseed_cli.drill.extrapolate import Extrapolated
from dreamseed_cli.drill.timeline import Check, Event, Heartbeat, Outcome, Targets
from dreamseed_cli.profile.drill import ScenarioName
from dreamseed_cli.profile.part import Part


class DrillRecord(Part):
    """Everything that a drill found. Times: measured, but for `extrapolated`, which is computed."""

    schema_version: Literal[1] = 1
    id: Annotated[str, Field(pattern=r"^[0-9]{8}T[0-9]{6}Z-[a-z-]+-[0-9a-f]{8}$")]
    scenario: ScenarioName
    began: AwareDatetime
    ended: AwareDatetime
    host: str
    dreamseed: str
    store: str
    """Where the backup came from, without a key."""
    backup_id: str = ""
    database_bytes: int = 0
    """Of the source, or of the backup where there was no source to ask."""
    outcome: Outcome
    rpo_s: float | None
    rto_s: float | None
    misses: tuple[str, ...] = ()
    targets: Targets
    recovered: Heartbeat | None = None
    events: tuple[Event, ...] = ()
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    """What this drill does not show, and what the clean place was given."""
    extrapolated: Extrapolated | None = None
    previous: Annotated[str, Field(pattern=r"^([0-9a-f]{128})?$")] | None = None
    """The signature of the drill kept before it: see drill.chain. None: there was no chain yet."""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASSED


class SignedDrill(Part):
    """record: the DrillRecord's JSON text, as it was signed. signature, public_key: Ed25519, hexadecimal."""

    record: str
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
