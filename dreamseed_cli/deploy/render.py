"""Files from a profile: the same profile gives the same bytes. Pure but for the templates it reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dreamseed_cli.deploy.catalog import Target, Template
from dreamseed_cli.deploy.cloudflare import cache_payload, images_payload, rate_payload, waf_payload
from dreamseed_cli.deploy.dashboards import DASHBOARDS, Dashboard, dashboard_json
from dreamseed_cli.deploy.facts import facts
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.profile.schema import Profile

_PARTS = {
    "environment": "systemd/_environment.j2",
    "common": "systemd/_common.j2",
    "stores": "systemd/_stores.j2",
    "hardening": "systemd/_hardening.j2",
}
"""What several units say. A later part may name an earlier one; `common` is for units with a user."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One file. path: below the folder of all. install_at: its place on this box or None. mode: rights."""

    target: str
    path: PurePosixPath
    text: str
    install_at: str | None
    mode: int


def render(profile: Profile, targets: Sequence[Target]) -> tuple[Rendered, ...]:
    """The files of `targets` that this profile has, in the catalogue's order."""
    environment = _environment()
    known = facts(profile)
    for name, source in _PARTS.items():
        known[name] = environment.get_template(source).render(known).rstrip()
    return tuple(_files(profile, targets, environment, known))


def first_line(template: Template) -> str:
    """By which an installed file is known as this template's: it is the same for every profile."""
    return _source(template).partition("\n")[0]


def _files(
    profile: Profile, targets: Sequence[Target], environment: Environment, known: dict[str, Any]
) -> Iterator[Rendered]:
    for one in targets:
        for template in one.files:
            if template.wanted(profile):
                text = _text(template, profile, environment, known)
                yield Rendered(one.name, template.path, text, template.install_at, template.mode)


def _text(template: Template, profile: Profile, environment: Environment, known: dict[str, Any]) -> str:
    if template.source.startswith("prometheus/"):
        # Prometheus has {{ }} of its own: ours are [[ ]] there.
        return _environment(("[[", "]]"), ("[%", "%]")).get_template(template.source).render(known)
    if template.source.endswith(".j2"):
        return environment.get_template(template.source).render(known)
    if template.source in _DATA:
        return json.dumps(_DATA[template.source](profile), indent=2, ensure_ascii=False) + "\n"
    return _source(template)


def _source(template: Template) -> str:
    return files("dreamseed_cli.deploy").joinpath("templates", template.source).read_text()


def _tailnet_policy(profile: Profile) -> dict[str, Any]:
    """Tailscale's policy: the front opens the gateway's port, administrators all, nobody else any."""
    return {
        "tagOwners": {"tag:gpu": ["autogroup:admin"], "tag:front": ["autogroup:admin"]},
        "grants": [
            {"src": ["tag:front"], "dst": ["tag:gpu"], "ip": [f"tcp:{profile.gateway.port}"]},
            {"src": ["autogroup:admin"], "dst": ["tag:gpu"], "ip": ["*"]},
        ],
    }


def _dashboard(one: Dashboard, profile: Profile) -> dict[str, Any]:
    return dashboard_json(one, profile.prices.get("electricity-flat") or _document_usd_per_kwh())


@cache
def _document_usd_per_kwh() -> str:
    """§B2's price, for a profile that names none."""
    row = next(one for one in load_book() if one.id == "b2-usd-kwh")
    return f"{row.middle:g}"


_DATA: dict[str, Callable[[Profile], dict[str, Any]]] = {
    "way-in/policy.json": _tailnet_policy,
    "cloudflare/cache-rules.json": lambda profile: cache_payload(profile.deploy.domain),
    "cloudflare/images-rules.json": lambda profile: images_payload(profile.deploy.domain),
    "cloudflare/waf-rules.json": lambda _profile: waf_payload(),
    "cloudflare/rate-limit-rules.json": lambda profile: rate_payload(
        profile.deploy.domain, profile.deploy.cloudflare_plan, profile.deploy.cloudflare_answers_per_10_s
    ),
    **{f"grafana/dashboards/{one.name}.json": partial(_dashboard, one) for one in DASHBOARDS},
}


@cache
def _environment(
    variable: tuple[str, str] = ("{{", "}}"), block: tuple[str, str] = ("{%", "%}")
) -> Environment:
    # Plain text: nothing is escaped. The profile lets only names, addresses and paths through.
    return Environment(
        loader=PackageLoader("dreamseed_cli.deploy", "templates"),
        autoescape=False,  # noqa: S701 - no HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        variable_start_string=variable[0],
        variable_end_string=variable[1],
        block_start_string=block[0],
        block_end_string=block[1],
    )
