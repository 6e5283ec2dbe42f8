"""Dashboards, rules and alerts ask only for metrics that something tells."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import get_args

import drill_records
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from stack_snapshots import stack_snapshot

from dreamseed_cli.backup.records import Look, RunRecord
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.textfile import metrics as backup_metrics
from dreamseed_cli.backup.wal.outage import ArchiveState, Backlog
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.deploy.catalog import TARGETS
from dreamseed_cli.deploy.dashboards import DASHBOARDS, expressions
from dreamseed_cli.deploy.render import render
from dreamseed_cli.engine.types import GenerationRequest
from dreamseed_cli.gateway.call import Call, Delta, PriorityClass, Workload
from dreamseed_cli.gateway.events.record import Outcome
from dreamseed_cli.gateway.journey import Journey
from dreamseed_cli.gateway.metrics import GatewayMetrics, LookupResult
from dreamseed_cli.gateway.reporter import Reporter
from dreamseed_cli.gateway.security.expiry import Condition, Entry
from dreamseed_cli.gateway.security.folder import CertificateFolder
from dreamseed_cli.monitoring.box import certificate_metrics, disk_metrics, drill_metrics
from dreamseed_cli.monitoring.cards import stack_metrics
from dreamseed_cli.monitoring.collect import Exposition
from dreamseed_cli.monitoring.serve import collectors
from dreamseed_cli.profile.drill import ScenarioName
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot
from dreamseed_cli.supervisor.replica import ReplicaState
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.policy import Power, see
from dreamseed_cli.ups.textfile import metrics as ups_metrics

_NAME = re.compile(r"\b(?:dreamseed|gen_ai)_[a-z0-9_]+|\bdreamseed:[a-z0-9_]+(?::[a-z0-9_]+)*")
_LIST = r"\b(by|on|without)\s*\(([^)]*)\)"
_LISTS = re.compile(_LIST)
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_CLOSED = {
    "alarm",
    "gen_ai_token_type",
    "job",
    "le",
    "outcome",
    "part",
    "priority",
    "result",
    "scenario",
    "state",
    "workload",
}
"""Labels with a set of values, all of which the exposition below has. Others may be anything."""
_REQUEST = GenerationRequest(request_id="q", prompt="x", max_tokens=2, temperature=0.0, top_p=1.0)

Labels = dict[str, set[str]]
"""Of one metric: the values of each of its labels."""

_OF_THE_SCRAPE: Labels = {"job": {"dreamseed", "node"}, "instance": set(), "box": set()}
_NOW = datetime(2026, 11, 30, tzinfo=UTC)


def _rules() -> dict[str, list[dict[str, str]]]:
    files = {one.path.name: one.text for one in render(load_profile("rtx5090x3"), TARGETS)}
    return {
        name: [rule for group in yaml.safe_load(files[name])["groups"] for rule in group["rules"]]
        for name in ("recording.yml", "alerts.yml")
    }


def _names(expression: str) -> set[str]:
    """Without what stands in braces and lists: those are labels."""
    return set(_NAME.findall(re.sub(rf"\{{[^}}]*\}}|{_LIST}", "", expression)))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Labels]:
    """What a box tells whose gateway, cards, backups, drills and UPS have seen everything they can."""
    families = [one for piece in _pieces() for one in text_string_to_metric_families(piece.decode())]
    found: dict[str, Labels] = {"up": {}, "dreamseed_fallback_committed_usd": {}}
    families += text_string_to_metric_families(_of_an_empty_box(tmp_path_factory.mktemp("box")))
    for family in families:
        # A counter that has counted nothing yet has its name all the same.
        suffix = "_total" if family.type == "counter" else ""
        found.setdefault(f"{family.name}{suffix}", {})
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def _of_an_empty_box(folder: Path) -> str:
    parts = collectors(StateDir(folder), CertificateFolder(folder))
    return asyncio.run(Exposition(parts).text()).decode()


def _pieces() -> list[bytes]:
    seen = Observation(
        0.0, on_battery=True, charge_percent=50.0, runtime_s=9.0, load_percent=9.0, rating_w=9.0
    )
    power = see(Power(), seen, 0.0, Ups(source="nut"), 1.0)
    card = CardSnapshot(
        index=0,
        name="c",
        state="ok",
        reason="",
        since=0.0,
        utilisation=0.5,
        memory_used_bytes=1,
        memory_total_bytes=2,
        power_w=1.0,
        power_limit_w=2.0,
        temperature_c=3,
        ecc_uncorrected=0,
    )
    look = Look.of(LiveRpo(1.0, _NOW, None, None, (), 900.0), _NOW)
    record = RunRecord(began=_NOW, ended=_NOW, backup_id="b", failed=_NOW, look=look)
    certificate = Entry(Path("s.crt"), "server", (), "", _NOW + timedelta(days=1), 1, Condition.DUE)
    archive = ArchiveState(_NOW, None, 0, "", "", Backlog(0, 0, 1, 1, None))
    drills = [drill_records.record(0, scenario=one) for one in get_args(ScenarioName)]
    return [
        generate_latest(_gateway().registry),
        stack_metrics(stack_snapshot(cards=(card,))),
        disk_metrics(Path("/")),
        certificate_metrics([certificate]),
        drill_metrics(drills),
        backup_metrics(record, archive),
        ups_metrics(power, 0.0, Ups(source="nut"), 0.0),
    ]


def _gateway() -> GatewayMetrics:
    """One that has seen a request of every class, workload, outcome and result of the cache."""
    metrics = GatewayMetrics()
    reporter = Reporter("m", metrics, None, None)
    for priority in PriorityClass:
        metrics.queue_length.labels(priority.label).set(0)
        metrics.queue_wait.labels(priority.label, "r0").observe(0.0)
        for workload, outcome in product(Workload, Outcome):
            call = Call(_REQUEST, priority, 0.0, workload=workload)
            journey = Journey()
            journey.call = call
            journey.add(Delta("x", "r0", "stop", 1, 2, simulated=True))
            reporter.end(journey, outcome, "reason")
    for workload, result in product(Workload, get_args(LookupResult)):
        metrics.cache_lookups.labels(workload.value, result).inc()
    metrics.set_replicas([{"name": "r0", "ready": True, "outstanding": 0}])
    for state in ReplicaState:
        metrics.note_states([("r0", state.value, "reason")])
    metrics.watch_dependency("redis")
    return metrics


def _asked() -> list[str]:
    rules = _rules()
    return [*expressions(), *(rule["expr"] for one in rules.values() for rule in one)]


def test_every_metric_that_is_asked_for_is_told(told: Mapping[str, Labels]) -> None:
    """A panel or an alert on a name that nobody tells is silent for ever, and nobody notices."""
    recorded = {rule["record"] for rule in _rules()["recording.yml"]}
    assert {name for text in _asked() for name in _names(text)} - recorded - set(told) == set()


def test_every_label_that_is_asked_for_is_told(told: Mapping[str, Labels]) -> None:
    """So is one on a label that its metric does not have, or on a value that nothing ever has."""
    known = {**told, **_recorded(told)}
    selectors = [found for text in _asked() for found in _SELECTOR.findall(text)]
    assert len(selectors) >= 10
    for metric, matchers in selectors:
        for label, _, pattern in _MATCHER.findall(matchers):
            values = {**known[metric], **_OF_THE_SCRAPE}.get(label)
            assert values is not None, f"{metric} has no label {label}"
            assert label in _CLOSED, f"say what {label} may be"
            assert set(pattern.split("|")) <= values, f"{metric} never has {label}={pattern}"


def test_lists_legends_and_texts_name_labels_that_are_there(told: Mapping[str, Labels]) -> None:
    """Prometheus makes an empty word of any other, and Grafana too."""
    known = {**told, **_recorded(told)}
    rules = _rules()
    for expression in _asked():
        assert _listed(expression, "by", "on", "without") <= _labels_in(expression, known), expression
    lines = [line for page in DASHBOARDS for panel in page.panels for line in panel.lines]
    written = [(expression, re.findall(r"\{\{(\w+)\}\}", legend)) for expression, legend in lines]
    for rule in rules["alerts.yml"]:
        words = re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
        written.append((rule["expr"], [word for word in words if word not in rule["labels"]]))
    assert sum(len(words) for _, words in written) >= 20
    for expression, words in written:
        assert set(words) <= _labels_of(expression, known), expression


def _listed(expression: str, *words: str) -> set[str]:
    lists = [names for word, names in _LISTS.findall(expression) if word in words]
    return {one.strip() for names in lists for one in names.split(",")}


def _recorded(told: Mapping[str, Labels]) -> dict[str, Labels]:
    """What rules record, with the labels that their sums keep."""
    found: dict[str, Labels] = {}
    for rule in _rules()["recording.yml"]:
        names = _names(rule["expr"])
        kept = _labels_of(rule["expr"], told)
        found[rule["record"]] = {
            label: values for name in names for label, values in told[name].items() if label in kept
        }
    return found


def _labels_in(expression: str, known: Mapping[str, Labels]) -> set[str]:
    """Of all that it asks for."""
    names = _names(expression) | {name for name in ("up",) if re.search(rf"\b{name}\b", expression)}
    return {label for name in names for label in known[name]} | set(_OF_THE_SCRAPE)


def _labels_of(expression: str, known: Mapping[str, Labels]) -> set[str]:
    """Of its result: what a sum keeps, else all. A quantile takes `le` away."""
    kept = _listed(expression, "by")
    if kept or re.match(r"(?:1 -\s+)?(?:sum|count)\(", expression):
        return kept - {"le"}
    names = _names(expression)
    if names and all(":" in name for name in names):
        return {label for name in names for label in known[name]}
    return _labels_in(expression, known)


def test_every_recorded_rule_is_used() -> None:
    """What nobody looks at need not be computed."""
    rules = _rules()
    asked = [*expressions(), *(rule["expr"] for rule in rules["alerts.yml"])]
    used = {name for text in asked for name in _names(text)}
    assert {rule["record"] for rule in rules["recording.yml"]} - used == set()
