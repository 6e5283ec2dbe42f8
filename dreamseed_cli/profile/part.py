"""What every table of a profile is made of."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from dreamseed_cli.core.address import is_sealed_on_the_way

Port = Annotated[int, Field(ge=0, le=65535)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def check_addresses(urls: tuple[str, ...]) -> None:
    """ValueError unless all are HTTP addresses that no prompt or key reaches in clear, each another one."""
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"'{url}' is not an address: write http://HOST:PORT or https://HOST")
        if url.startswith("http://") and not is_sealed_on_the_way(urlsplit(url).hostname or ""):
            raise ValueError(
                f"prompts and the key would travel in clear to '{url}': write https://, "
                "or an address of loopback or Tailscale (100.64.0.0/10)"
            )
    if len(set(urls)) != len(urls):
        raise ValueError("urls names an engine twice")


class Part(BaseModel):
    """A table of the profile."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
