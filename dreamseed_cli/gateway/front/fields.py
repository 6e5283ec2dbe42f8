"""Fields of the front's messages that are out of their range. Pure."""

from __future__ import annotations

import uuid

from dreamseed_cli.gateway.front.money import MOST_MICRO_USD

LONGEST_NAME = 256
"""Characters of a name that a front sends."""


class WrongField(ValueError):
    """A field of a request is out of its range: INVALID_ARGUMENT."""


def require_name(field: str, value: str, *, shortest: int = 0) -> None:
    """Raises WrongField for a text that is too short, too long or has a NUL."""
    if not shortest <= len(value) <= LONGEST_NAME or "\0" in value:
        raise WrongField(f"{field} must have {shortest} to {LONGEST_NAME} characters, and no NUL")


def require_amount(field: str, value: int, *, least: int) -> None:
    """Raises WrongField for money, in millionths of a US dollar, that the table cannot hold."""
    if not least <= value <= MOST_MICRO_USD:
        raise WrongField(f"{field} is {value}: allowed are {least} to {MOST_MICRO_USD}")


def read_uuid(field: str, text: str) -> uuid.UUID:
    """Raises WrongField."""
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise WrongField(f"{field} is no UUID") from error
