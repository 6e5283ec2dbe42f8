"""From a store's address and the environment's keys to the store."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from dreamseed_cli.backup.store.base import Backend, Limits, Store, check_name
from dreamseed_cli.backup.store.local import LocalFolder
from dreamseed_cli.backup.store.steady import SteadyStore
from dreamseed_cli.core.errors import MissingError, UsageError

Task = Literal["daily", "prune"]
"""The daily key need not be able to delete; pruning takes another."""

HELD_VARIABLE: Final = "DREAMSEED_STORE_HELD"
"""Names a file with one object's name a line: the store is read as if it held no others. A drill's restore is
given what there was at the loss, as the live system goes on archiving behind it.
"""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{1,62}")


@dataclass(frozen=True, slots=True)
class KeyNames:
    """The environment variables that hold a key's ID and the key itself."""

    key_id: str
    key: str


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """b2_realm: "production" or an address. s3_endpoint: None for AWS. *_prune: keys with the right to
    delete; where they are not set, pruning tries the daily ones.
    """

    limits: Limits = field(default_factory=Limits)
    b2_realm: str = "production"
    b2: KeyNames = KeyNames("DREAMSEED_B2_KEY_ID", "DREAMSEED_B2_KEY")
    b2_prune: KeyNames = KeyNames("DREAMSEED_B2_PRUNE_KEY_ID", "DREAMSEED_B2_PRUNE_KEY")
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_storage_class: str = "STANDARD"
    s3: KeyNames = KeyNames("DREAMSEED_S3_KEY_ID", "DREAMSEED_S3_KEY")
    s3_prune: KeyNames = KeyNames("DREAMSEED_S3_PRUNE_KEY_ID", "DREAMSEED_S3_PRUNE_KEY")


def open_store(
    url: str,
    settings: StoreSettings | None = None,
    *,
    task: Task = "daily",
    create: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Store:
    """The store at `local:PATH`, `b2:BUCKET[/PREFIX]` or `s3:BUCKET[/PREFIX]`; nothing is sent yet.

    create: make a local folder a store if it is none (a bucket has to exist). UsageError: no such address.
    MissingError: a key is not in the environment.
    """
    settings = settings or StoreSettings()
    environment = os.environ if environment is None else environment
    kind, _, rest = url.partition(":")
    held = _held(environment)
    if kind == "local" and rest:
        folder = LocalFolder(Path(rest).expanduser().absolute())
        if create:
            folder.create()
        return SteadyStore(folder, settings.limits, held)
    if kind in {"b2", "s3"} and _BUCKET.fullmatch(rest.partition("/")[0]):
        bucket, _, path = rest.partition("/")
        prefix = f"{check_name(path.rstrip('/'))}/" if path.strip("/") else ""
        make = _b2 if kind == "b2" else _s3
        return SteadyStore(make(bucket, prefix, settings, task, environment), settings.limits, held)
    raise UsageError(
        "this is no address of a store",
        place=url,
        remedy="Write local:PATH, b2:BUCKET/PREFIX or s3:BUCKET/PREFIX.",
    )


def _held(environment: Mapping[str, str]) -> frozenset[str] | None:
    """MissingError if the file is named and cannot be read: the whole store is not what was asked for."""
    path = environment.get(HELD_VARIABLE)
    if not path:
        return None
    try:
        return frozenset(Path(path).read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise MissingError(
            f"the list of what the store held cannot be read: {error.strerror}",
            place=f"{HELD_VARIABLE}: {path}",
            remedy=f"Unset {HELD_VARIABLE} to read the whole store.",
        ) from error


def _b2(
    bucket: str, prefix: str, settings: StoreSettings, task: Task, environment: Mapping[str, str]
) -> Backend:
    from dreamseed_cli.backup.store.b2 import B2Bucket, B2Place

    key_id, key = _keys(settings.b2, settings.b2_prune if task == "prune" else None, environment)
    return B2Bucket(B2Place(bucket, prefix, settings.b2_realm, key_id, key), settings.limits)


def _s3(
    bucket: str, prefix: str, settings: StoreSettings, task: Task, environment: Mapping[str, str]
) -> Backend:
    from dreamseed_cli.backup.store.s3 import S3Bucket, S3Place

    key_id, key = _keys(settings.s3, settings.s3_prune if task == "prune" else None, environment)
    where = (settings.s3_endpoint, settings.s3_region, settings.s3_storage_class)
    return S3Bucket(S3Place(bucket, prefix, *where, key_id, key), settings.limits)


def _keys(daily: KeyNames, prune: KeyNames | None, environment: Mapping[str, str]) -> tuple[str, str]:
    names = prune if prune and (environment.get(prune.key_id) or environment.get(prune.key)) else daily
    key_id, key = environment.get(names.key_id, ""), environment.get(names.key, "")
    if not key_id or not key:
        raise MissingError(
            f"no key in {names.key_id} and {names.key}",
            place="environment",
            remedy="Create a key that may list, read and write, not delete, and export both.",
        )
    return key_id, key
