"""What every table of the price book is made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dreamseed_cli.costsim.money import MOST


def _exact(value: object) -> Decimal:
    """A decimal from its digits. ValueError for anything else: a float is not what stands in the file."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f'write it in quotes, as "{value}": money is decimal')  # noqa: TRY004 - pydantic's
    try:
        return Decimal(value)
    except ArithmeticError as error:
        raise ValueError(f"'{value}' is not a number") from error


Signed = Annotated[Decimal, BeforeValidator(_exact)]
"""A decimal number, as a string or an integer."""
Amount = Annotated[Signed, Field(ge=0, le=MOST)]


class Part(BaseModel):
    """A table of the price book."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
