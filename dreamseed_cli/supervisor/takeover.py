"""What becomes of what a killed supervisor left: healthy engines go on, the rest is ended before we start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.adoption import adoptable, look_at
from dreamseed_cli.supervisor.child import ChildSpec
from dreamseed_cli.supervisor.orphans import Orphan, end_orphans, remove_stale_sockets
from dreamseed_cli.supervisor.state import ChildRecord


@dataclass(frozen=True, slots=True)
class Takeover:
    """left: what may be adopted, by name. notes: what an operator should know of it."""

    left: Mapping[str, ChildRecord] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def take_over(
    state: StateDir, orphans: Sequence[Orphan], specs: Iterable[ChildSpec], say: Callable[[str], None]
) -> Takeover:
    """End the orphans that are none of `specs`, and remove the sockets of all that are not alive. Blocks.

    say: told in a few words what it does. FailedError if one does not end.
    """
    wanted = {spec.name: spec for spec in specs}
    reasons = {id(orphan): _obstacle(orphan, wanted) for orphan in orphans}
    kept = [orphan for orphan in orphans if reasons[id(orphan)] is None]
    ended = [orphan for orphan in orphans if reasons[id(orphan)] is not None]
    if ended:
        say(f"ending what a killed run left: {_names(ended)}")
        end_orphans(ended)
    left = {orphan.record.name: orphan.record for orphan in kept}
    living = {Path(record.endpoint.removeprefix("unix:")) for record in left.values()}
    remove_stale_sockets(state, keep={state.socket("control"), *living})
    notes = []
    if kept:
        notes.append(f"Adopted {_names(kept)} from the run that was killed.")
    if ended:
        causes = [f"{o.record.name}: {reasons[id(o)]}" for o in ended if o.record.role != "service"]
        why = f" ({'; '.join(causes)})" if causes else ""
        notes.append(f"Ended what a killed run had left: {_names(ended)}{why}.")
    return Takeover(left, tuple(notes))


def _obstacle(orphan: Orphan, wanted: Mapping[str, ChildSpec]) -> str | None:
    record = orphan.record
    spec = wanted.get(record.name)
    if spec is None:
        return "the profile has no such process"
    return adoptable(record, spec, look_at(record.leader))


def _names(orphans: Sequence[Orphan]) -> str:
    return ", ".join(str(orphan) for orphan in orphans)
