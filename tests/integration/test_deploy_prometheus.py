"""The rendered Prometheus set-up, on the real Prometheus: every alert provoked, every metric there."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_cases import ALL_WRONG, AWAY, CASES, HEALTHY, HEALTHY_FOR, NO_DRILL, NO_GATEWAY, QUIET, Case
from free_ports import free_ports

from dreamseed_cli.deploy.catalog import TARGETS
from dreamseed_cli.deploy.dashboards import expressions
from dreamseed_cli.deploy.render import render
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import Profile

_BOUND_S = 120.0
_WATCHDOG = '{alertname="DreamseedWatchdog",alertstate="firing",severity="none"}'


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered folder of Prometheus."""
    return _written(load_profile("rtx5090x3"), tmp_path_factory.mktemp("prometheus"))


def _written(profile: Profile, folder: Path) -> Path:
    for one in render(profile, TARGETS):
        if one.target == "prometheus":
            (folder / one.path.name).write_text(one.text)
    return folder


def _promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool")
    assert program is not None, "promtool is missing: make setup installs Debian's prometheus"
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _alerts(rules: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load((rules / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _names(rules: Path) -> set[tuple[str, str]]:
    return {_named(rule["alert"], rule["labels"]) for rule in _alerts(rules)}


def _named(alert: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """Several alerts have one name where there is one for each workload."""
    return alert, labels.get("workload", "")


@pytest.mark.parametrize("name", shipped_names())
def test_the_configuration_is_valid(name: str, tmp_path: Path) -> None:
    """By Prometheus's own tool, with the rules that it names."""
    _promtool("check", "config", _written(load_profile(name), tmp_path) / "prometheus.yml")


def test_prometheus_reads_what_every_panel_asks(tmp_path: Path) -> None:
    """Grafana checks no query: promtool does, as recording rules, and refuses a broken one beside them."""
    asked = [one.replace("$usd_per_kwh", "0.1") for one in expressions()]
    assert not [one for one in asked if "$" in one], "a variable that Grafana fills in"
    path = tmp_path / "panels.yml"
    path.write_text(_as_rules(asked))
    _promtool("check", "rules", path)
    path.write_text(_as_rules([*asked, "sum by (outcome) (rate(dreamseed_x[1m])"]))
    with pytest.raises(AssertionError, match="parse"):
        _promtool("check", "rules", path)


def _as_rules(asked: list[str]) -> str:
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(asked)]
    text: str = yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]})
    return text


def test_every_alert_fires_when_it_is_provoked(rules: Path) -> None:
    """Each by promtool, in virtual time."""
    assert {_named(case.alert, case.labels) for case in CASES} == _names(rules)
    # Hours of virtual time are looked at every ten minutes: each look computes every rule.
    for every, cases in (
        ("1m", [case for case in CASES if not case.fires_at.endswith("h")]),
        ("10m", [case for case in CASES if case.fires_at.endswith("h")]),
    ):
        _test_rules(rules, every, [_promtool_case(case) for case in cases])


def test_a_ups_that_nobody_ever_watched_is_told(tmp_path: Path) -> None:
    """Nothing would stop that box in order; a watcher that looks is enough."""
    box = load_profile("rtx5090x3").model_dump() | {"ups": {"source": "nut"}}
    up = {"series": 'up{job="dreamseed",box="b"}', "values": "1x60"}
    looked = {"series": 'dreamseed_ups_looked_timestamp_seconds{box="b"}', "values": "0+60x60"}
    tests = [_ups_unseen([up], 1), _ups_unseen([up, looked], 0)]
    _test_rules(_written(Profile.model_validate(box, strict=False), tmp_path), "1m", tests)


def _ups_unseen(series: list[dict[str, str]], times: int) -> dict[str, Any]:
    firing = "count(ALERTS{alertname='DreamseedUpsUnseen',alertstate='firing'}) or vector(0)"
    told = {"expr": firing, "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": times}]}
    return {"interval": "1m", "input_series": series, "promql_expr_test": [told]}


def _test_rules(rules: Path, every: str, tests: Sequence[dict[str, Any]]) -> None:
    """By promtool, with every rule computed at each interval of virtual time."""
    files = ("recording.yml", "alerts.yml")
    groups = [group for name in files for group in yaml.safe_load((rules / name).read_text())["groups"]]
    whole = {
        "rule_files": list(files),
        "evaluation_interval": every,
        # Else alerts may be computed before what they look at, which is stale after five minutes.
        "group_eval_order": [group["name"] for group in groups],
        "tests": list(tests),
    }
    path = rules / "tests.yml"
    path.write_text(yaml.safe_dump(whole))
    _promtool("test", "rules", path)


def _promtool_case(case: Case) -> dict[str, Any]:
    labels = {"alertname": case.alert, "alertstate": "firing", **case.labels}
    wanted = ",".join(f'{name}="{value}"' for name, value in labels.items())
    firing = f"ALERTS{{{wanted}}}"
    fires = {
        "expr": f"count({firing})",
        "eval_time": case.fires_at,
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
    return {
        "interval": "1m",
        "input_series": _series(case.series),
        "promql_expr_test": [fires],
    }


def _series(series: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def test_nothing_fires_on_a_healthy_box(rules: Path) -> None:
    """For hours, at any moment; every metric that alerts look at is there, so that each could.

    Only the one that tells that alerts work is there all the time.
    """
    assert _looked_at(rules) <= {name.partition("{")[0] for name in HEALTHY}
    fired = f'count_over_time(ALERTS{{alertstate="firing",severity!="none"}}[{HEALTHY_FOR}])'
    healthy = {
        "interval": "1m",
        "input_series": _series(HEALTHY),
        "promql_expr_test": [
            {"expr": fired, "eval_time": HEALTHY_FOR, "exp_samples": []},
            {
                "expr": f'count_over_time(ALERTS{{severity="none"}}[{HEALTHY_FOR}]) > bool 90',
                "eval_time": HEALTHY_FOR,
                "exp_samples": [{"labels": _WATCHDOG, "value": 1}],
            },
        ],
    }
    _test_rules(rules, "5m", [healthy])


def test_a_quiet_night_wakes_nobody(rules: Path) -> None:
    """A share of few requests is no measure, though a fifth of them is late and none comes from the cache."""
    alerts = 'ALERTS{alertname=~"DreamseedSlo.*|DreamseedCache.*",alertstate="firing"}'
    fired = f"count_over_time({alerts}[{HEALTHY_FOR}])"
    share = "max_over_time(dreamseed:requests_bad:ratio_rate1h[8h]) > bool 0.15"
    night = {
        "interval": "1m",
        "input_series": _series(QUIET),
        "promql_expr_test": [
            {"expr": fired, "eval_time": HEALTHY_FOR, "exp_samples": []},
            {"expr": share, "eval_time": HEALTHY_FOR, "exp_samples": [{"labels": "{}", "value": 1}]},
        ],
    }
    _test_rules(rules, "10m", [night])


def _looked_at(rules: Path) -> set[str]:
    """The metrics in the alerts' expressions, and in those of the recording rules that they use."""
    asked = " ".join(rule["expr"] for rule in _alerts(rules))
    for group in yaml.safe_load((rules / "recording.yml").read_text())["groups"]:
        asked += "".join(f" {rule['expr']}" for rule in group["rules"] if rule["record"] in asked)
    return set(re.findall(r"\b(?:dreamseed_|gen_ai_)\w+|\bup\b", asked))


def test_an_alert_says_what_to_do_and_its_page_is_there(rules: Path) -> None:
    """At 3 a.m. nobody searches."""
    root = Path(__file__).parents[2]
    for rule in _alerts(rules):
        told = rule["annotations"]
        assert told["summary"], rule["alert"]
        assert told["do"], rule["alert"]
        assert (root / told["runbook"]).is_file(), told["runbook"]
        assert rule["labels"]["severity"] in ("page", "ticket", "none")


@pytest.fixture(scope="module")
def prometheus(rules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus on the rendered files, before boxes that have everything wrong. Its address."""
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is missing: make setup installs Debian's"
    boxes = {name: _Box(_exposition(name)) for name in (ALL_WRONG, NO_GATEWAY, NO_DRILL)}
    port, nobody = free_ports(2)
    targets = {name: box.server_port for name, box in boxes.items()} | {AWAY: nobody}
    _write_quick(rules, targets)
    process = subprocess.Popen(
        [
            program,
            f"--config.file={rules / 'quick.yml'}",
            f"--storage.tsdb.path={tmp_path_factory.mktemp('tsdb')}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_BOUND_S)
        for box in boxes.values():
            box.shutdown()
            box.server_close()


def _write_quick(rules: Path, targets: Mapping[str, int]) -> None:
    """The rendered configuration, but for the boxes, and for its patience: it looks every second.

    The windows of rates stay as they are, hours or not: Prometheus extrapolates from two scrapes. Waiting to
    be sure (`for`) is left out; that is what promtool tries, in virtual time.
    """
    whole = yaml.safe_load((rules / "prometheus.yml").read_text())
    whole["global"] = dict.fromkeys(whole["global"], "1s")
    ours = next(one for one in whole["scrape_configs"] if one["job_name"] == "dreamseed")
    ours["static_configs"] = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"box": name}} for name, port in targets.items()
    ]
    whole["rule_files"] = ["recording.yml", "alerts_at_once.yml"]
    (rules / "quick.yml").write_text(yaml.safe_dump(whole))
    at_once = re.sub(r"(?m)^ *for: .*\n", "", (rules / "alerts.yml").read_text())
    (rules / "alerts_at_once.yml").write_text(at_once)


def _exposition(box: str) -> str:
    """Each line once: some provoke several alerts."""
    lines = [line for case in CASES if case.box == box and case.now for line in case.now.splitlines()]
    return "\n".join(dict.fromkeys(lines)) + "\n"


class _Box(ThreadingHTTPServer):
    """An exporter that tells this, with the number of the scrape for `$n`."""

    def __init__(self, text: str) -> None:
        super().__init__(("127.0.0.1", 0), _Telling)
        self.text, self.scrapes = text, itertools.count(1)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Telling(BaseHTTPRequestHandler):
    server: _Box

    def do_GET(self) -> None:
        body = self.server.text.replace("$n", str(next(self.server.scrapes))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Quiet."""


def test_a_real_prometheus_sees_what_is_wrong(prometheus: str, rules: Path) -> None:
    """Every alert fires, and its texts can be read."""
    wanted = _names(rules)
    assert {_named(case.alert, case.labels) for case in CASES if case.now is not None} == wanted
    end = time.monotonic() + _BOUND_S
    firing: list[dict[str, Any]] = []
    missing = wanted
    while time.monotonic() < end and missing:
        time.sleep(0.5)
        firing = _firing(prometheus)
        missing = wanted - {_named(one["labels"]["alertname"], one["labels"]) for one in firing}
    assert missing == set()
    told = {one["labels"]["alertname"]: one["annotations"]["summary"] for one in firing}
    assert not [text for text in told.values() if "<error" in text or "<no value" in text]
    assert told["DreamseedRpoMissed"].startswith("All work would be lost now")
    assert told["DreamseedNotSeen"] == f"Nothing is known of box {AWAY}"


def _firing(address: str) -> list[dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{address}/api/v1/alerts", timeout=5) as answer:  # noqa: S310 - ours
            alerts = json.load(answer)["data"]["alerts"]
    except OSError:
        return []
    return [one for one in alerts if one["state"] == "firing"]
