"""Where PostgreSQL is, from a profile's or the gateway's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dreamseed_cli.core.errors import MissingError, UsageError


def resolve_dsn(
    dsn: str | None, variable: str | None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """The connection string: the environment variable's if one is named, else `dsn`; None: no PostgreSQL.

    Raises MissingError if the variable is named and not set, UsageError if the string is none of libpq's.
    """
    if variable is None:
        return None if dsn is None else require_dsn(dsn, place="services.postgres")
    found = environment.get(variable)
    if not found:
        raise MissingError(
            "PostgreSQL's connection string is not set",
            place=f"${variable}",
            remedy=f"Set {variable}, such as postgresql://dreamseed@10.0.0.5/dreamseed.",
        )
    return require_dsn(found, place=f"${variable}")


def require_dsn(dsn: str, *, place: str) -> str:
    """The string itself, if libpq can read it; UsageError, which quotes nothing of it, if not."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # Without libpq's words: they may quote a password.
        raise UsageError(
            "this is not a connection string of libpq",
            place=place,
            remedy="Write postgresql://USER@HOST/DATABASE, special characters in it percent-encoded.",
        ) from None
    return dsn
