"""What the database keeps of requests, for an operator to see that old ones go."""

from __future__ import annotations

from datetime import datetime

from dreamseed_cli.database.connection import connected

# The index on arrived_at answers this, however many rows there are.
_OLDEST = "SELECT min(arrived_at) FROM requests"


def oldest_request(dsn: str) -> datetime | None:
    """When the oldest request on record arrived; None: there is none. Raises what `connected` does."""
    with connected(dsn) as connection:
        row = connection.execute(_OLDEST).fetchone()
    return row[0] if row is not None else None
