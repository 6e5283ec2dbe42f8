"""The target's API key: a variable's name travels, never its value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.core.errors import MissingError, UsageError


@dataclass(frozen=True, slots=True)
class Access:
    """What another door of a server (its metrics) opens to: the authority of its certificate, and its key."""

    ca_file: Path | None = None
    api_key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Of a request there."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


def access_to(spec: TargetSpec) -> Access:
    """As requests over HTTP have it. Nothing for a gateway: what it has behind it is not shown its key.

    Raises as read_key().
    """
    if spec.kind == "grpc":
        return Access()
    key = read_key(spec.api_key_env) if spec.api_key_env else None
    return Access(Path(spec.ca_file) if spec.ca_file else None, key)


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
