"""What is rendered for others' systems, by their schema or parser: Compose, Cloud Run, Terraform.

Each check is shown to refuse a broken file, so that it says something when it takes ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from deploy_profiles import deploy_profiles
from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]
from lark.exceptions import LarkError
from terraform_form import canonical

from dreamseed_cli.deploy.catalog import TARGETS
from dreamseed_cli.deploy.render import render

_CLOUD_RUN = Path(__file__).parents[2] / "fixtures/cloud_run_service.schema.json"
_REFERENCE = re.compile(r"\b(var|local|data|module|[a-z]+_[a-z_]+)\.([a-z_][a-z0-9_]*)")


def _texts(path: str) -> Iterator[str]:
    for profile in deploy_profiles().values():
        yield next(one.text for one in render(profile, TARGETS) if str(one.path) == path)


def _check_compose(text: str) -> None:
    """The Compose specification's own schema, and every name that a service uses is declared."""
    read = yaml.safe_load(text)
    Draft202012Validator(get_builtin_schema("vendor.compose-spec")).validate(read)
    for name, service in read["services"].items():
        volumes = {one.partition(":")[0] for one in service.get("volumes", [])}
        named = {one for one in volumes if not one.startswith((".", "/"))}
        used = {
            "volumes": named,
            "secrets": set(service.get("secrets", [])),
            "services": set(service.get("depends_on", [])),
        }
        for kind, names in used.items():
            assert names <= set(read.get(kind, {})), f"{name}: {kind}"


def _check_cloud_run(text: str) -> None:
    """The fields of Cloud Run's reference; what is mounted and waited for is there."""
    read = yaml.safe_load(text)
    Draft202012Validator(json.loads(_CLOUD_RUN.read_text())).validate(read)
    template = read["spec"]["template"]
    spec, names = template["spec"], {one.get("name") for one in template["spec"]["containers"]}
    volumes = {one["name"] for one in spec.get("volumes", [])}
    for container in spec["containers"]:
        assert {one["name"] for one in container.get("volumeMounts", [])} <= volumes
        probe = container.get("startupProbe", {})
        # Cloud Run's bound on the whole of a start; and a probe ends before the next begins.
        assert probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10) <= 240
        assert probe.get("timeoutSeconds", 1) <= probe.get("periodSeconds", 10)
    waits = json.loads(
        template["metadata"]["annotations"].get("run.googleapis.com/container-dependencies", "{}")
    )
    for one, others in waits.items():
        assert {one, *others} <= names
        probed = {each["name"] for each in spec["containers"] if "startupProbe" in each}
        assert set(others) <= probed, "a container that others wait for needs a startup probe"


def _check_terraform(text: str) -> None:
    """HCL's grammar; each reference is declared, each variable used, each type of a provider asked for."""
    read = hcl2.loads(text)
    resources = {
        (kind.strip('"'), name.strip('"'))
        for one in read["resource"]
        for kind, named in one.items()
        for name in named
    }
    variables = {("var", name.strip('"')) for one in read.get("variable", []) for name in one}
    providers = {
        name
        for block in read["terraform"]
        for one in block["required_providers"]
        for name in one
        if not name.startswith("__")
    }
    assert len(resources) == sum(len(named) for one in read["resource"] for named in one.values())
    assert {kind.partition("_")[0] for kind, _ in resources} <= providers
    used = {found for words in _expressions(read) for found in _REFERENCE.findall(words)}
    assert used <= resources | variables, f"not declared: {used - resources - variables}"
    assert variables <= used, f"not used: {variables - used}"


def _expressions(read: Any) -> Iterator[str]:
    """What Terraform computes: the parser writes it as ${...}; a string's own text is in quotation marks."""
    if isinstance(read, dict):
        for value in read.values():
            yield from _expressions(value)
    elif isinstance(read, list):
        for value in read:
            yield from _expressions(value)
    elif isinstance(read, str):
        yield from re.findall(r"\$\{[^}]*\}", read)


def test_the_compose_file_is_one_by_the_specification() -> None:
    """The schema that check-jsonschema ships from compose-spec/compose-spec."""
    for text in _texts("compose/compose.yaml"):
        _check_compose(text)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: unless-stopped", "restarts: unless-stopped"),
        ("network_mode: host", "network_mode: [host]"),
        ("secrets: [valkey.conf]", "secrets: [valkey.cnf]"),
        ("- grafana:/var/lib/grafana", "- graphana:/var/lib/grafana"),
        ("depends_on: [valkey-1", "depends_on: [valkey-9"),
    ],
)
def test_a_broken_compose_file_is_seen(right: str, wrong: str) -> None:
    """A field or a name that is none."""
    *_, whole = _texts("compose/compose.yaml")
    _refuses(_check_compose, whole, right, wrong)


def test_the_cloud_run_service_has_the_references_fields() -> None:
    """Every way in, so every container that may stand there."""
    for text in _texts("cloud-run/service.yaml"):
        _check_cloud_run(text)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("containerConcurrency: 100", "containerConcurency: 100"),
        ('maxScale: "10"', "maxScale: 10"),
        ("timeoutSeconds: 300", "timeoutSeconds: 7200"),
        ("name: http1", "name: http"),
        ("key: latest\n            - name: METRICS", "keys: latest\n            - name: METRICS"),
        ("- name: ca\n              mountPath", "- name: cert\n              mountPath"),
        ('{"front":["tunnel"]}', '{"front":["tunel"]}'),
        ("failureThreshold: 30", "failureThreshold: 300"),
        ("run.googleapis.com/ingress: all", "run.googleapis.com/ingress: public"),
        ("name: GATEWAY_TIMEOUT_S", "name: PORT"),
    ],
)
def test_a_broken_cloud_run_service_is_seen(right: str, wrong: str) -> None:
    """An unknown field, a wrong kind, a bound passed, a name that is none."""
    _refuses(_check_cloud_run, next(_texts("cloud-run/service.yaml")), right, wrong)


def test_terraform_can_read_its_files() -> None:
    """Both plans: the free one has fewer resources."""
    for text in _texts("cloudflare/main.tf"):
        _check_terraform(text)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("content = var.api_target", "content = var.api_targt"),
        ('variable "api_target"', 'variable "api_targets"'),
        ("proxied = true", "proxied = = true"),
        ('resource "cloudflare_ruleset" "rate" {', 'resource "cloudflare_ruleset" "rate"'),
        ('resource "cloudflare_ruleset" "rate"', 'resource "cloudflare_ruleset" "cache"'),
        ('resource "cloudflare_dns_record"', 'resource "cloudfare_dns_record"'),
        ("ttl     = 1", "ttl     = cloudflare_zone.main.ttl"),
    ],
)
def test_broken_terraform_is_seen(right: str, wrong: str) -> None:
    """What the grammar refuses, and a reference to nothing."""
    _refuses(_check_terraform, next(_texts("cloudflare/main.tf")), right, wrong)


def _check_form(text: str) -> None:
    assert canonical(text) == text


def test_terraform_would_not_write_its_files_otherwise() -> None:
    """`terraform fmt -check` finds nothing to change."""
    for text in _texts("cloudflare/main.tf"):
        _check_form(text)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("  zone_id = var.zone_id", "    zone_id = var.zone_id"),
        ("type        = string", "type = string"),
        ("proxied = true", "proxied  = true"),
        ("ratelimit = {", "ratelimit   = {"),
        ("      enabled = true\n", "      enabled = true \n"),
        ("ttl     = 1\n", 'ttl     = 1\n  comment = "x"\n  settings = {}\n'),
    ],
)
def test_another_form_is_seen(right: str, wrong: str) -> None:
    """Each of these `terraform fmt` itself changes."""
    _refuses(_check_form, next(_texts("cloudflare/main.tf")), right, wrong)


def _refuses(check: Any, text: str, right: str, wrong: str) -> None:
    assert right in text
    with pytest.raises((AssertionError, ValidationError, LarkError)):
        check(text.replace(right, wrong, 1))
