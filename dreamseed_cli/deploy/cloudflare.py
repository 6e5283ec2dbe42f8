"""§C2's page rules as Cloudflare's rulesets, for Terraform and as payloads of its API. Pure.

A payload is the body of PUT /zones/ZONE_ID/rulesets/phases/PHASE/entrypoint. It replaces all rules that the
zone has in this phase.
"""

from __future__ import annotations

from typing import Any, Final

_YEAR_S = 365 * 24 * 3600
_NOT_KEPT = [{"status_code_range": {"from": 400, "to": 599}, "value": -1}]
"""What failed is asked for again."""
MANAGED_RULES: Final = "efb7b8c949ac4650a09736fc376e9aee"
"""Cloudflare's own managed ruleset: the same identifier in every account."""


def cache_rules(domain: str) -> list[dict[str, Any]]:
    """ref, description, expression (Cloudflare's rules language) and edge_ttl_s of each.

    edge_ttl_s None: as long as the origin says. A TTL of one's own is at least one hour in a Pro zone, two
    in a free one, so §C2's five minutes are the front's `Cache-Control: max-age=300`.
    """
    return [
        {
            "ref": "static",
            "description": "Static files for a year (§C2)",
            "expression": _below(domain, "/static/"),
            "edge_ttl_s": _YEAR_S,
        },
        {
            "ref": "questions",
            "description": "Questions for five minutes, as the front says (§C2)",
            "expression": (
                f'(http.host eq "api.{domain}" and starts_with(http.request.uri.path, "/v1/questions/"))'
            ),
            "edge_ttl_s": None,
        },
    ]


def expression_for_images(domain: str) -> str:
    """§C2's images."""
    return _below(domain, "/images/")


def expression_for_answers(domain: str, plan: str) -> str:
    """What costs a card's time. A free zone's rate limit knows the path only, not the host."""
    path = 'http.request.uri.path in {"/v1/chat/completions" "/v1/completions"}'
    return f"({path})" if plan == "free" else f'(http.host eq "api.{domain}" and {path})'


def cache_payload(domain: str) -> dict[str, Any]:
    """Phase http_request_cache_settings."""
    return {
        "description": "dreamseed cache (§C2)",
        "rules": [
            {
                "ref": rule["ref"],
                "description": rule["description"],
                "expression": rule["expression"],
                "action": "set_cache_settings",
                "action_parameters": {"cache": True, **_kept_for(rule["edge_ttl_s"])},
                "enabled": True,
            }
            for rule in cache_rules(domain)
        ],
    }


def _kept_for(edge_ttl_s: int | None) -> dict[str, Any]:
    """At the edge; a browser keeps what the origin says, where a zone's default would be four hours."""
    if edge_ttl_s is None:
        return {"edge_ttl": {"mode": "respect_origin"}, "browser_ttl": {"mode": "respect_origin"}}
    return {
        "edge_ttl": {"mode": "override_origin", "default": edge_ttl_s, "status_code_ttl": _NOT_KEPT},
        "browser_ttl": {"mode": "respect_origin"},
    }


def images_payload(domain: str) -> dict[str, Any]:
    """Phase http_config_settings."""
    return {
        "description": "dreamseed images (§C2)",
        "rules": [
            {
                "ref": "images",
                "description": "Lossless images (§C2)",
                "expression": expression_for_images(domain),
                "action": "set_config",
                "action_parameters": {"polish": "lossless"},
                "enabled": True,
            }
        ],
    }


def waf_payload() -> dict[str, Any]:
    """Phase http_request_firewall_managed."""
    return {
        "description": "dreamseed managed rules (§A1)",
        "rules": [
            {
                "ref": "managed",
                "description": "Cloudflare's managed rules (§A1: WAF)",
                "expression": "true",
                "action": "execute",
                "action_parameters": {"id": MANAGED_RULES},
                "enabled": True,
            }
        ],
    }


def rate_payload(domain: str, plan: str, per_10_s: int) -> dict[str, Any]:
    """Phase http_ratelimit. Free zones have the period of ten seconds only."""
    return {
        "description": "dreamseed rate limit",
        "rules": [
            {
                "ref": "answers",
                "description": "An address may ask for so many answers in ten seconds",
                "expression": expression_for_answers(domain, plan),
                "action": "block",
                "ratelimit": {
                    "characteristics": ["cf.colo.id", "ip.src"],
                    "period": 10,
                    "requests_per_period": per_10_s,
                    "mitigation_timeout": 10,
                },
                "enabled": True,
            }
        ],
    }


def _below(domain: str, path: str) -> str:
    return f'(ends_with(http.host, ".{domain}") and starts_with(http.request.uri.path, "{path}"))'
