"""What an operator does to users and keys, in SQL. Blocks: for commands, never for the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.gateway.accounts.keys import NewKey, new_key
from dreamseed_cli.gateway.accounts.types import Tier

_LONGEST_ID = 256
_LONGEST_LABEL = 100

_USERS = """
    SELECT id, tier, created_at, disabled_at,
        (SELECT count(*) FROM api_keys k WHERE k.user_id = users.id AND k.revoked_at IS NULL
            AND (k.expires_at IS NULL OR k.expires_at > now())) AS keys
    FROM users
    WHERE (%(id)s::text IS NULL OR id = %(id)s) AND (%(tier)s::text IS NULL OR tier = %(tier)s)
    ORDER BY id LIMIT %(limit)s
"""
_COUNT = "SELECT count(*) FROM users WHERE %(tier)s::text IS NULL OR tier = %(tier)s"
_SET_DISABLED = """
    UPDATE users SET disabled_at = CASE WHEN %s THEN coalesce(disabled_at, now()) END WHERE id = %s
"""
_KEYS = """
    SELECT id, user_id, prefix, label, created_at, expires_at, revoked_at
    FROM api_keys WHERE user_id = %s ORDER BY id DESC
"""
_ADD_KEY = """
    INSERT INTO api_keys (user_id, hash, prefix, label, expires_at)
    VALUES (%s, %s, %s, %s, now() + make_interval(days => %s))
    RETURNING id, user_id, prefix, label, created_at, expires_at, revoked_at
"""
_REVOKE = """
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = %s
    RETURNING id, user_id, prefix, label, created_at, expires_at, revoked_at
"""


@dataclass(frozen=True, slots=True)
class User:
    """A row of `users`. keys: how many of its keys work."""

    id: str
    tier: Tier
    created_at: datetime
    disabled_at: datetime | None
    keys: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "tier", Tier(self.tier))


@dataclass(frozen=True, slots=True)
class Key:
    """A row of `api_keys`, without the hash."""

    id: int
    user_id: str
    prefix: str
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


def add_user(connection: psycopg.Connection, user_id: str, tier: Tier) -> User:
    """Register a user; UsageError if it is one already or its id cannot be one."""
    _require_id(user_id)
    cursor = connection.execute(
        "INSERT INTO users (id, tier) VALUES (%s, %s) ON CONFLICT DO NOTHING", (user_id, tier.value)
    )
    if cursor.rowcount == 0:
        raise UsageError(
            "this user exists already",
            place=user_id,
            remedy=f"Change its tier with: dreamseed user tier {user_id} {tier}.",
        )
    return find_user(connection, user_id)


def find_user(connection: psycopg.Connection, user_id: str) -> User:
    """A registered user; MissingError if there is none of this id."""
    _require_id(user_id)
    user = _users(connection, user_id=user_id).fetchone()
    if user is None:
        raise MissingError(
            "no user of this id is registered",
            place=user_id,
            remedy="See who is with: dreamseed user list. Register it with: dreamseed user add.",
        )
    return user


def list_users(connection: psycopg.Connection, tier: Tier | None, limit: int) -> tuple[list[User], int]:
    """The first `limit` users by id, of one tier or all, and how many there are in all."""
    value = tier.value if tier else None
    total = connection.execute(_COUNT, {"tier": value}).fetchone()
    return _users(connection, tier=value, limit=limit).fetchall(), total[0] if total else 0


def set_tier(connection: psycopg.Connection, user_id: str, tier: Tier) -> User:
    """Give a user another tier."""
    find_user(connection, user_id)
    connection.execute("UPDATE users SET tier = %s WHERE id = %s", (tier.value, user_id))
    return find_user(connection, user_id)


def set_disabled(connection: psycopg.Connection, user_id: str, *, disabled: bool) -> User:
    """Shut a user out, or let it in again; what is so already stays so."""
    find_user(connection, user_id)
    connection.execute(_SET_DISABLED, (disabled, user_id))
    return find_user(connection, user_id)


def create_key(
    connection: psycopg.Connection, user_id: str, *, label: str = "", expires_days: int | None = None
) -> tuple[NewKey, Key]:
    """A new key of a user, with its text, which is nowhere else."""
    find_user(connection, user_id)
    if len(label) > _LONGEST_LABEL or not label.isprintable():
        raise UsageError(f"a label has at most {_LONGEST_LABEL} printable characters", place="--label")
    key = new_key()
    cursor = connection.cursor(row_factory=class_row(Key))
    row = cursor.execute(_ADD_KEY, (user_id, key.hash, key.prefix, label, expires_days)).fetchone()
    assert row is not None  # noqa: S101 - an INSERT either raises or returns its row
    return key, row


def list_keys(connection: psycopg.Connection, user_id: str) -> list[Key]:
    """A user's keys, the newest first, revoked and expired ones included."""
    find_user(connection, user_id)
    cursor = connection.cursor(row_factory=class_row(Key))
    return cursor.execute(_KEYS, (user_id,)).fetchall()


def revoke_key(connection: psycopg.Connection, key_id: int) -> Key:
    """End a key; one that is revoked stays so. MissingError if there is none of this number."""
    cursor = connection.cursor(row_factory=class_row(Key))
    key = cursor.execute(_REVOKE, (key_id,)).fetchone()
    if key is None:
        raise MissingError(
            "there is no key of this number",
            place=str(key_id),
            remedy="See a user's keys with: dreamseed user key list USER.",
        )
    return key


def _users(
    connection: psycopg.Connection,
    *,
    user_id: str | None = None,
    tier: str | None = None,
    limit: int | None = None,
) -> psycopg.Cursor[User]:
    return connection.cursor(row_factory=class_row(User)).execute(
        _USERS, {"id": user_id, "tier": tier, "limit": limit}
    )


def _require_id(user_id: str) -> None:
    if 1 <= len(user_id) <= _LONGEST_ID and user_id.isprintable() and user_id.strip() == user_id:
        return
    raise UsageError(
        f"a user's id has 1 to {_LONGEST_ID} printable characters, without spaces around it",
        place=repr(user_id[:80]),
    )
