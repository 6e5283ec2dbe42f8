"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from dreamseed_cli.core.errors import UsageError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean x or y?` with the three nearest of the known names at most; "" if none is near."""
    near = get_close_matches(name, list(known), n=3)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def no_such_key(key: str, *, place: str, schema: Mapping[str, Any]) -> UsageError:
    """For a key of a file that none of its tables has. schema: JSON Schema of the whole file: the key may
    stand in the wrong table as well as be misspelt.
    """
    tables = (schema, *schema.get("$defs", {}).values())
    known = {name for table in tables for name in table.get("properties", {})}
    remedy = did_you_mean(key, known) or "Remove it, or mind the spelling."
    return UsageError("there is no such key", place=place, remedy=remedy)
