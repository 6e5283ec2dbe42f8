"""Where PostgreSQL is, from a profile's or the gateway's settings."""

from __future__ import annotations

import os

from dreamseed_cli.core.errors import MissingError


def resolve_dsn(dsn: str | None, variable: str | None) -> str | None:
    """The connection string: the environment variable's if one is named, else `dsn`; None: no PostgreSQL.

    Raises MissingError if the variable is named and not set.
    """
    if variable is None:
        return dsn
    found = os.environ.get(variable)
    if not found:
        raise MissingError(
            "PostgreSQL's connection string is not set",
            place=f"${variable}",
            remedy=f"Set {variable}, such as postgresql://dreamseed@10.0.0.5/dreamseed.",
        )
    return found
