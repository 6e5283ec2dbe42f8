"""What every table of a profile is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def check_addresses(urls: tuple[str, ...]) -> None:
    """ValueError unless all are HTTP addresses, each another one."""
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"'{url}' is not an address: write http://HOST:PORT or https://HOST")
    if len(set(urls)) != len(urls):
        raise ValueError("urls names an engine twice")


class Part(BaseModel):
    """A table of the profile."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
