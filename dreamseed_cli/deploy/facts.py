"""What the templates print, from the profile. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Interface, ip_network
from typing import Any

from dreamseed_cli import __version__
from dreamseed_cli.backup.rpo import archive_timeout_s
from dreamseed_cli.backup.wal.settings import UPLOAD_S
from dreamseed_cli.database.settings import wanted_settings
from dreamseed_cli.database.tuning.box import Box, Storage
from dreamseed_cli.database.tuning.derive import GIB, derive, worst_case_bytes
from dreamseed_cli.deploy.cloudflare import (
    MANAGED_RULES,
    cache_rules,
    expression_for_answers,
    expression_for_images,
)
from dreamseed_cli.deploy.containers import KAFKA_PORTS, VALKEY_PORTS, kafka_here, valkey_here
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.schema import Book
from dreamseed_cli.gateway.metrics import FIRST_TOKEN_S
from dreamseed_cli.profile.deploy import FrontFallback
from dreamseed_cli.profile.schema import EmulatedEngine, Profile, VllmEngine

IMAGES: Mapping[str, str] = {
    "kafka": "4.1.1",
    "valkey": "8.1.5",
    "prometheus": "v3.8.0",
    "grafana": "12.3.0",
    "tailscale": "v1.90.9",
    "cloudflared": "2025.11.1",
}
"""Tags of other people's images, pinned: a moving tag would change the service under its operators."""
ALERTMANAGER = "127.0.0.1:9093"
"""Where Prometheus sends alerts. None is rendered: the profile does not know whom to tell, and how."""
EXAMPLE_PROJECT = "your-project"
_EXAMPLE_NAMES = {"tailscale": "gpu.example.ts.net", "wireguard": "gpu.example.net"}
_TO_CONTROLLER = 10
"""From a broker's port to its controller's: the next ones are Alertmanager's."""
_VALKEY_MIB = 1024
_HIT_RATES = (
    ("question", "i1-questions-hit-percent"),
    ("feedback", "i1-feedback-hit-percent"),
    ("recommendation", "i1-recommendations-hit-percent"),
)
_BURN_WINDOWS = ("5m", "30m", "1h", "6h")
_FAST_BURN, _SLOW_BURN = 14.4, 6.0
"""Google's SRE workbook, chapter 5: 2 % of a month's error budget in an hour, 5 % in six."""
_BAD_AT_LEAST = 10
"""Requests of a burn's longer window: fewer bad ones wake nobody."""
_LOOKUPS_AT_LEAST = 1000
"""In an hour: with fewer, answers are gone (after an hour) before they are asked for again."""
_FALLBACK_USD_PER_HOUR = 1.0
"""Somebody is told when the fallback costs more: a box that serves spends nothing on it."""
_PLAIN_PATH = r"(/[A-Za-z0-9._-]+)+"
"""An absolute path of plain names, so that a unit can be given it."""
_STOP_SPARE_S = 30
"""What ending the services takes beside draining; systemd kills after that."""


def gateway_name(profile: Profile) -> str:
    """The gateway's name in the tunnel; an example's where the profile has none and none follows."""
    way = profile.deploy.way_in
    if way.name is not None:
        return way.name
    return _EXAMPLE_NAMES.get(way.kind) or f"gpu.{profile.deploy.domain}"


def box_address(profile: Profile) -> str:
    """The box's address in WireGuard's tunnel."""
    return profile.deploy.way_in.box_side.partition("/")[0]


def gcp_project(profile: Profile) -> str:
    """The profile's, or an example's."""
    return profile.deploy.cloud_run.project or EXAMPLE_PROJECT


def front_image(profile: Profile) -> str:
    """The front's image with its tag."""
    run = profile.deploy.cloud_run
    made = f"{run.region}-docker.pkg.dev/{gcp_project(profile)}/dreamseed/api:{__version__}"
    return run.image or made


def facts(profile: Profile) -> dict[str, Any]:
    """Every name that a template may use."""
    deploy, book = profile.deploy, load_book()
    return {
        "profile": profile,
        "domain": deploy.domain,
        "run": deploy.cloud_run,
        "way": deploy.way_in,
        "host": deploy.host,
        "images": IMAGES,
        "name": gateway_name(profile),
        "port": profile.gateway.port,
        "project": gcp_project(profile),
        "image": front_image(profile),
        "endpoint": _endpoint(profile),
        "timeout_s": f"{profile.gateway.default_timeout_s:g}",
        "fallback": _fallback(deploy.cloud_run.fallback),
        **_cloudflare(profile),
        **_containers(profile),
        **_database(profile, book),
        **_units(profile),
        **_alerts(profile, book),
        "box_address": box_address(profile),
        "box_network": str(IPv4Interface(deploy.way_in.box_side).network),
        "lan_family": f"ip{'' if ip_network(deploy.host.lan).version == 4 else '6'}",
        "placeholder_key": "REPLACE_WITH_THE_PUBLIC_KEY_OF_THE_OTHER_SIDE",
        "usd_per_hour": profile.failover.usd_per_hour,
    }


def _endpoint(profile: Profile) -> str:
    way, port = profile.deploy.way_in, profile.gateway.port
    if way.kind == "cloudflare":
        return f"127.0.0.1:{port}"
    return f"{box_address(profile) if way.kind == 'wireguard' else gateway_name(profile)}:{port}"


def _fallback(chosen: FrontFallback | None) -> dict[str, str] | None:
    """The front's variables for §H2, without the key."""
    if chosen is None:
        return None
    return {
        "FALLBACK_URL": chosen.url,
        "FALLBACK_MODEL": chosen.model,
        "FALLBACK_INPUT_USD_PER_MTOK": _plain(chosen.input_usd_per_mtok),
        "FALLBACK_OUTPUT_USD_PER_MTOK": _plain(chosen.output_usd_per_mtok),
        "FALLBACK_MONTHLY_CAP_USD": _plain(chosen.monthly_cap_usd),
        "FALLBACK_TOKENS_FIELD": chosen.tokens_field,
    }


def _plain(usd: float) -> str:
    """To a millionth, the least that the front reckons with."""
    return f"{usd:.6f}".rstrip("0").rstrip(".")


def _cloudflare(profile: Profile) -> dict[str, Any]:
    domain = profile.deploy.domain
    return {
        "cache_rules": cache_rules(domain),
        "images_expression": expression_for_images(domain),
        "answers_expression": expression_for_answers(domain, profile.deploy.cloudflare_plan),
        "paid": profile.deploy.cloudflare_plan != "free",
        "managed_rules": MANAGED_RULES,
        "requests_per_10_s": profile.deploy.cloudflare_answers_per_10_s,
    }


def _containers(profile: Profile) -> dict[str, Any]:
    ports = KAFKA_PORTS if kafka_here(profile) else ()
    nodes = [{"id": i, "port": port, "controller": port + _TO_CONTROLLER} for i, port in enumerate(ports, 1)]
    voters = ",".join(f"{node['id']}@127.0.0.1:{node['controller']}" for node in nodes)
    return {
        "kafka_nodes": nodes,
        "kafka_voters": voters,
        "valkey_ports": VALKEY_PORTS if valkey_here(profile) else (),
        "valkey_mib": _VALKEY_MIB,
    }


def _database(profile: Profile, book: Book) -> dict[str, Any]:
    told = profile.deploy.database
    box = Box(
        memory_bytes=int(told.memory_gib * GIB),
        cores=told.cores,
        storage=Storage(told.storage),
        disk_free_bytes=told.disk_gib * GIB,
        connections=told.connections,
    )
    settings = derive(box)
    values = {one.name: one.plain for one in settings}
    document = {one.name: one.plain for one in wanted_settings(book)}
    connections = next(row.middle for row in book if row.id == "e1-connections")
    rpo_s = profile.backup.rpo_target_s
    return {
        "box": told,
        "settings": settings,
        "worst_gib": worst_case_bytes(values, box.connections) / GIB,
        "document_worst_gib": worst_case_bytes(document, int(connections)) / GIB,
        "rpo_s": rpo_s,
        "archive_timeout_s": archive_timeout_s(rpo_s, UPLOAD_S),
    }


def _units(profile: Profile) -> dict[str, Any]:
    engine = profile.engine
    drain = profile.gateway.drain_timeout_s
    engine_stop = engine.shutdown_timeout_s if isinstance(engine, VllmEngine | EmulatedEngine) else 0
    return {
        "stop_s": int(drain + engine_stop + _STOP_SPARE_S),
        "cuda": profile.card_engine is not None,
        "state_name": profile.deploy.host.state.removeprefix("/var/lib/"),
        "watch_folder": _watch_folder(profile),
        "backup_folders": _backup_folders(profile),
        "docker": isinstance(engine, VllmEngine) and engine.launcher == "docker",
    }


def _watch_folder(profile: Profile) -> str | None:
    """Where `db watch` writes beside the state folder; None: nowhere, or a path that no unit could be given:
    `~` (homes are closed to units), or one that is more than a name.
    """
    standby = profile.services.postgres.standby
    chosen = standby.service_file if standby is not None else None
    folder = (chosen or "").rpartition("/")[0]
    return folder if chosen and folder and re.fullmatch(_PLAIN_PATH, chosen) else None


def _backup_folders(profile: Profile) -> list[str]:
    """Where backups are written on this box, beside the state folder."""
    backup = profile.backup
    stores = [one or "" for one in (backup.store, backup.cold)]
    local = [one.removeprefix("local:") for one in stores if one.startswith("local:")]
    chosen = {one for one in (*local, backup.temp) if one}
    return sorted(one for one in chosen if re.fullmatch(_PLAIN_PATH, one))


def _alerts(profile: Profile, book: Book) -> dict[str, Any]:
    budget = 1 - profile.targets.attainment
    target_s = profile.targets.ttft_ms / 1000
    # The histogram counts up to its bounds: the largest not above the target; the least where all are.
    bound = max((one for one in FIRST_TOKEN_S if one <= target_s), default=FIRST_TOKEN_S[0])
    rows = {row.id: row for row in book}
    return {
        "metrics_port": profile.deploy.host.metrics_port,
        "alertmanager": ALERTMANAGER,
        "docs_url": profile.deploy.monitoring.docs_url,
        "targets": profile.targets,
        "ttft_bound": bound,
        "windows": _BURN_WINDOWS,
        "fast_burn": f"{_FAST_BURN * budget:.4g}",
        "slow_burn": f"{_SLOW_BURN * budget:.4g}",
        "bad_at_least": _BAD_AT_LEAST,
        "lookups_at_least": _LOOKUPS_AT_LEAST,
        "hit_rates": [(workload, f"{rows[row].middle:g}") for workload, row in _HIT_RATES],
        "fallback_usd_per_hour": _FALLBACK_USD_PER_HOUR,
        "backup_late_s": f"{profile.backup.schedule.late_after_s:g}",
        "drill_late_days": profile.drill.every_days + profile.drill.late_after_days,
        "scenarios": "|".join(profile.drill.scenarios),
        "rpo_minutes": f"{profile.backup.rpo_target_s / 60:g}",
    }
