"""What a caller showed of itself, before anybody asked PostgreSQL who it is."""

from __future__ import annotations

import msgspec

API_KEY_PREFIX = "ds_"
"""How every user's API key begins."""


class Credentials(msgspec.Struct, frozen=True):
    """The evidence of one call."""

    trusted: bool
    """A service token, a certificate of the client authority, or loopback where no authentication is asked:
    such a caller may name any user_id."""
    api_key: str | None = None
    """A user's own key, from `authorization: Bearer` or, through a trusted caller, from `x-user-key`."""
