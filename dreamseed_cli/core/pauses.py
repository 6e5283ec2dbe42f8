"""How long a stream of `dreamseed bench` waits after failures; a simulation of its load does the same."""

from __future__ import annotations

# A server that refuses at once would be asked a thousand times a second by every stream.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


def pause_after(failures: int) -> float:
    """How long a stream waits before it asks again, in seconds, after so many failures in a row."""
    return min(_FIRST_PAUSE_S * 2.0 ** (failures - 1), _LONGEST_PAUSE_S) if failures else 0.0
