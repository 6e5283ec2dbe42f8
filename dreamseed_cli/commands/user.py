"""`dreamseed user ...`: who may use the service, at which tier, with which API keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.database_choice import DsnEnvOption, ExternalProfileOption, chosen_dsn
from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from dreamseed_cli.gateway.accounts.admin import Key, User
    from dreamseed_cli.gateway.accounts.keys import NewKey

user_app = typer.Typer(help="Register users, and give them tiers and API keys.", no_args_is_help=True)
key_app = typer.Typer(help="Create, list and revoke a user's API keys.", no_args_is_help=True)
user_app.add_typer(key_app, name="key")


class TierName(StrEnum):
    """gateway.accounts.types.Tier, without what that one imports: --help must be fast."""

    PAID = "paid"
    FREE = "free"
    BACKGROUND = "background"


UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The user's id, as requests name it.")]
TierArgument = Annotated[TierName, typer.Argument(help="Its best priority is PREMIUM, STANDARD or BATCH.")]


@user_app.command("add")
def add(
    user: UserArgument,
    tier: Annotated[TierName, typer.Option(help="Its best priority is PREMIUM, STANDARD or BATCH.")],
    key: Annotated[bool, typer.Option("--key", help="Make an API key, too, and print it once.")] = False,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Register a user."""
    from dreamseed_cli.database.connection import connected
    from dreamseed_cli.gateway.accounts.admin import add_user, create_key
    from dreamseed_cli.gateway.accounts.types import Tier

    with connected(chosen_dsn(dsn_env, profile, state_dir)) as connection:
        added = add_user(connection, user, Tier(tier))
        made = create_key(connection, user) if key else None
    if made is not None:
        added = replace(added, keys=1)
    data: dict[str, Any] = {"user": _user_data(added)}
    view: list[RenderableType] = [f"{added.id} is registered at tier {added.tier}."]
    if made is not None:
        data["key"] = _new_key_data(*made)
        view += _new_key_view(*made)
    return Result(data, view=view)


@user_app.command("list")
def list_(
    tier: Annotated[TierName | None, typer.Option(help="Only this tier.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, by id.")] = 100,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """List the registered users."""
    from rich.table import Table
    from rich.text import Text

    from dreamseed_cli.database.connection import connected
    from dreamseed_cli.gateway.accounts.admin import list_users
    from dreamseed_cli.gateway.accounts.types import Tier

    with connected(chosen_dsn(dsn_env, profile, state_dir)) as connection:
        users, total = list_users(connection, Tier(tier) if tier else None, limit)
    table = Table("user", "tier", "state", "keys", "registered (UTC)", box=None, header_style="dim")
    table.caption, table.caption_justify = f"{len(users)} of {total:,}", "left"
    for one in users:
        table.add_row(Text(one.id), one.tier, _user_state(one), str(one.keys), _moment(one.created_at))
    return Result({"users": [_user_data(one) for one in users], "total": total}, view=[table])


@user_app.command("tier")
def tier_(
    user: UserArgument,
    tier: TierArgument,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Give a user another tier. Gateways notice within gateway.accounts.cache_s."""
    from dreamseed_cli.database.connection import connected
    from dreamseed_cli.gateway.accounts.admin import set_tier
    from dreamseed_cli.gateway.accounts.types import Tier

    with connected(chosen_dsn(dsn_env, profile, state_dir)) as connection:
        return _changed(set_tier(connection, user, Tier(tier)))


@user_app.command("disable")
def disable(
    user: UserArgument,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Shut a user out, with all its keys. Gateways notice within gateway.accounts.cache_s."""
    return _disable(chosen_dsn(dsn_env, profile, state_dir), user, disabled=True)


@user_app.command("enable")
def enable(
    user: UserArgument,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Let a disabled user in again."""
    return _disable(chosen_dsn(dsn_env, profile, state_dir), user, disabled=False)


@key_app.command("create")
def create(
    user: UserArgument,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires_days: Annotated[
        int | None,
        typer.Option(
            min=1, max=36_500, help="It ends after so many days. Default: never.", show_default=False
        ),
    ] = None,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Make an API key and print it: this once, only its hash is kept."""
    from dreamseed_cli.database.connection import connected
    from dreamseed_cli.gateway.accounts.admin import create_key

    with connected(chosen_dsn(dsn_env, profile, state_dir)) as connection:
        made = create_key(connection, user, label=label, expires_days=expires_days)
    return Result({"key": _new_key_data(*made)}, view=_new_key_view(*made))


@key_app.command("list")
def list_keys_(
    user: UserArgument,
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """List a user's keys: what they begin with, and whether they work."""
    from rich.table import Table
    from rich.text import Text

    from dreamseed_cli.database.connection import connected
    from dreamseed_cli.gateway.accounts.admin import list_keys

    with connected(chosen_dsn(dsn_env, profile, state_dir)) as connection:
        keys = list_keys(connection, user)
    columns = ("key", "begins with", "state", "label", "created (UTC)", "expires (UTC)")
    table = Table(*columns, box=None, header_style="dim")
    for key in keys:
        expires = _moment(key.expires_at) if key.expires_at else "never"
        state, created = key.state(_now()), _moment(key.created_at)
        table.add_row(str(key.id), key.prefix, state, Text(key.label), created, expires)
    return Result({"keys": [_key_data(key) for key in keys]}, view=[table])


@key_app.command("revoke")
def revoke(
    key: Annotated[
        int, typer.Argument(metavar="KEY", min=1, max=2**63 - 1, help="Its number, from `user key list`.")
    ],
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """End a key for good. Gateways notice within gateway.accounts.cache_s."""
    from dreamseed_cli.database.connection import connected
    from dreamseed_cli.gateway.accounts.admin import revoke_key

    with connected(chosen_dsn(dsn_env, profile, state_dir)) as connection:
        revoked = revoke_key(connection, key)
    said = f"Key {revoked.id} ({revoked.prefix}...) is revoked."
    return Result({"key": _key_data(revoked)}, view=[said])


def _disable(dsn: str, user: str, *, disabled: bool) -> Result:
    from dreamseed_cli.database.connection import connected
    from dreamseed_cli.gateway.accounts.admin import set_disabled

    with connected(dsn) as connection:
        return _changed(set_disabled(connection, user, disabled=disabled))


def _changed(user: User) -> Result:
    from rich.text import Text

    return Result(
        {"user": _user_data(user)}, view=[Text(f"{user.id}: tier {user.tier}, {_user_state(user)}.")]
    )


def _user_state(user: User) -> str:
    return "enabled" if user.disabled_at is None else "disabled"


def _user_data(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "tier": user.tier.value,
        "state": _user_state(user),
        "working_keys": user.keys,
        "created_at": user.created_at.isoformat(),
        "disabled_at": user.disabled_at.isoformat() if user.disabled_at else None,
    }


def _key_data(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "user": key.user_id,
        "prefix": key.prefix,
        "state": key.state(_now()),
        "label": key.label,
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }


def _new_key_data(new: NewKey, key: Key) -> dict[str, Any]:
    return {**_key_data(key), "text": new.text}


def _new_key_view(new: NewKey, key: Key) -> Sequence[RenderableType]:
    return [f"Key {key.id}, shown this once:", new.text]


def _now() -> datetime:
    return datetime.now(UTC)


def _moment(at: datetime) -> str:
    """In UTC, whatever zone the database's session has."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
