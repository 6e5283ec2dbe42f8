"""Which secrets a profile needs, by name: variables of the box, secrets of the cloud, files of Compose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dreamseed_cli.backup.store.open import KeyNames, StoreSettings
from dreamseed_cli.deploy.containers import kafka_here, valkey_here
from dreamseed_cli.plan.tables import models
from dreamseed_cli.profile.schema import Profile, VllmEngine

_FRONT = ("dreamseed-gateway-token", "dreamseed-metrics-token", "dreamseed-gateway-ca")
_FALLBACK = "dreamseed-fallback-key"
_TUNNEL: Mapping[str, tuple[str, ...]] = {
    "tailscale": ("dreamseed-tailscale-key",),
    "cloudflare": ("dreamseed-access-id", "dreamseed-access-secret"),
    "wireguard": (),
}


def cloud_secrets(profile: Profile) -> tuple[str, ...]:
    """Secret Manager's, which the front's service refers to."""
    fallback = () if profile.deploy.cloud_run.fallback is None else (_FALLBACK,)
    return (*_FRONT, *_TUNNEL[profile.deploy.way_in.kind], *fallback)


def compose_files(profile: Profile) -> tuple[str, ...]:
    """Files beside compose.yaml, which its first lines describe."""
    return (
        *((".env",) if kafka_here(profile) else ()),
        *(("secrets/valkey.conf",) if valkey_here(profile) else ()),
        "secrets/grafana-password",
    )


def variables(profile: Profile) -> dict[str, str]:
    """The environment variables that the units need, each with what in the profile asks for it."""
    return dict([*_of_stores(profile), *_of_fields(profile.model_dump(), ""), *_of_the_model(profile)])


def _of_stores(profile: Profile) -> Iterator[tuple[str, str]]:
    keys: Mapping[str, KeyNames] = {"b2": StoreSettings().b2, "s3": StoreSettings().s3}
    for field, url in (("backup.store", profile.backup.store), ("backup.cold", profile.backup.cold)):
        names = keys.get((url or "").partition(":")[0])
        if names is not None:
            yield names.key_id, field
            yield names.key, field


def _of_fields(part: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    """Fields that end in `_env` name a variable; an embedded PostgreSQL needs no connection string."""
    embedded = place == "services.postgres." and part["mode"] != "external"
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from _of_fields(value, f"{place}{name}.")
        elif name.endswith("_env") and isinstance(value, str) and not embedded:
            yield value, f"{place}{name}"


def _of_the_model(profile: Profile) -> Iterator[tuple[str, str]]:
    engine = profile.engine
    model = models().get(engine.model) if isinstance(engine, VllmEngine) else None
    if model is not None and model.gated:
        yield "HF_TOKEN", "engine.model, whose licence has to be accepted on Hugging Face"
