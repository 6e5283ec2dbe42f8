"""The target's API key: a variable's name travels, never its value."""

from __future__ import annotations

import os

from dreamseed_cli.core.errors import MissingError, UsageError


def read_key(variable: str) -> str:
    """The API key that an environment variable holds. Raises MissingError without it."""
    key = os.environ.get(variable, "")
    if not key:
        raise MissingError(
            "the target's API key is not set", place=variable, remedy=f"Set the variable {variable}."
        )
    if not all("!" <= character <= "~" for character in key):
        raise UsageError(
            "the API key holds a space or a character beyond ASCII",
            place=variable,
            remedy="Copy it again, in one line without quotes.",
        )
    return key
