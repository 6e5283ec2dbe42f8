"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from dreamseed_cli.core.errors import UsageError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean x or y?` with the three nearest of the known names at most, else those that begin so; ""
    if none does.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3) or [one for one in names if one.startswith(name)][:3]
    return f"Did you mean {' or '.join(near)}?" if near else ""


def no_such_key(steps: Sequence[str | int], *, place: str, schema: Mapping[str, Any]) -> UsageError:
    """For a key of a file that its table does not have.

    steps: from the top to the key. schema: JSON Schema of the whole file: the key is looked for in its own
    table, then in all, since it may stand in the wrong one as well as be misspelt.
    """
    key = str(steps[-1])
    tables = (schema, *schema.get("$defs", {}).values())
    near = did_you_mean(key, _names(_at(schema, steps[:-1]))) or did_you_mean(key, _names(tables))
    remedy = near or "Remove it, or mind the spelling."
    return UsageError("there is no such key", place=place, remedy=remedy)


def _names(tables: Iterable[Mapping[str, Any]]) -> set[str]:
    return {name for table in tables for name in table.get("properties", {})}


def _at(schema: Mapping[str, Any], steps: Sequence[str | int]) -> list[Mapping[str, Any]]:
    """What may stand there: several where it is a choice, none where the schema does not tell."""
    found = list(_choices(schema, schema))
    for step in steps:
        under = [_under(table, step) for table in found]
        found = [one for table in under if table is not None for one in _choices(schema, table)]
    return found


def _under(table: Mapping[str, Any], step: str | int) -> Mapping[str, Any] | None:
    """A table's value of this name, or a list's of this index."""
    named = table.get("properties", {}).get(step)
    under = named or table.get("items" if isinstance(step, int) else "additionalProperties")
    return under if isinstance(under, Mapping) else None


def _choices(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in node:
        yield from _choices(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    elif choices := node.get("anyOf") or node.get("oneOf"):
        for one in choices:
            yield from _choices(schema, one)
    else:
        yield node
