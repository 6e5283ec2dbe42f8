"""What `deploy render` makes of a profile."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from configparser import ConfigParser
from decimal import Decimal
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from deploy_profiles import FALLBACK, ON_THIS_BOX, deploy_profiles

from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.backup.schedule.units import DRILL, LOOK, LOOK_LIMIT, NAME, service_unit
from dreamseed_cli.backup.wal.settings import settings_for
from dreamseed_cli.deploy.catalog import TARGETS, target
from dreamseed_cli.deploy.facts import ALERTMANAGER
from dreamseed_cli.deploy.render import render
from dreamseed_cli.deploy.secrets import cloud_secrets, compose_files
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import Profile

WAYS = ("tailscale", "cloudflare", "wireguard")


def _texts(profile: Profile) -> Mapping[str, str]:
    return {str(one.path): one.text for one in render(profile, TARGETS)}


def _with(**deploy: Any) -> Profile:
    profile = load_profile("rtx5090x3")
    return Profile.model_validate(profile.model_dump() | {"deploy": deploy}, strict=False)


def _env(container: Mapping[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


@pytest.mark.parametrize("name", shipped_names())
def test_a_profile_gives_the_same_files_every_time(name: str) -> None:
    """Nothing of the clock, the machine or the order of a set gets into them."""
    first, second = _texts(load_profile(name)), _texts(load_profile(name))
    assert first == second
    assert len(first) >= 20


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("plan", ["free", "pro"])
def test_nothing_is_left_unfilled(way: str, plan: str) -> None:
    """No template's mark, no `None`, and every file ends with a line's end."""
    for path, text in _texts(_with(way_in={"kind": way}, cloudflare_plan=plan)).items():
        # Prometheus and Grafana have {{ }} of their own.
        marks = r"\[\[|\[%" if path.startswith(("prometheus", "grafana")) else r"\{\{|\{%"
        assert not re.search(rf"{marks}|\bNone\b", text), path
        assert text.endswith("\n"), path


@pytest.mark.parametrize("way", WAYS)
def test_yaml_and_json_can_be_read(way: str) -> None:
    """By a library, not by eye."""
    texts = _texts(_with(way_in={"kind": way}))
    read = {path: yaml.safe_load(text) for path, text in texts.items() if path.endswith((".yaml", ".yml"))}
    read |= {path: json.loads(text) for path, text in texts.items() if path.endswith(".json")}
    assert all(isinstance(one, dict) for one in read.values())
    assert {"compose/compose.yaml", "cloud-run/service.yaml", "cloudflare/cache-rules.json"} <= set(read)


@pytest.mark.parametrize(
    ("way", "endpoint", "asks_for", "tunnel"),
    [
        ("tailscale", "gpu.example.ts.net:50051", None, True),
        ("cloudflare", "127.0.0.1:50051", "gpu.dreamseed.ai", True),
        ("wireguard", "10.99.0.1:50051", "gpu.example.net", False),
    ],
)
def test_the_front_reaches_the_gateway_through_the_chosen_way(
    way: str, endpoint: str, asks_for: str | None, tunnel: bool
) -> None:
    """And asks for its certificate's name where the address is another."""
    texts = _texts(_with(way_in={"kind": way}))
    spec = yaml.safe_load(texts["cloud-run/service.yaml"])["spec"]["template"]["spec"]
    containers = {one["name"]: one for one in spec["containers"]}
    front = _env(containers["front"])
    assert front["GPU_ENDPOINT"] == endpoint
    assert ("tunnel" in containers) is tunnel
    assert front["GATEWAY_CA_FILE"] == "/secrets/ca/ca.pem"
    assert front.get("GATEWAY_SERVER_NAME") == asks_for
    ways = "\n".join(text for path, text in texts.items() if path.startswith("way-in/"))
    made_for = set(re.findall(r"dreamseed certs create --name (\S+)", ways))
    assert made_for == {asks_for or endpoint.partition(":")[0]}, "the certificate's name is another"


def test_no_secret_and_no_redis_stands_in_the_service() -> None:
    """§C1 has `redis://localhost`, where there is no Redis; secrets come by reference."""
    text = _texts(_with())["cloud-run/service.yaml"]
    front = _env(yaml.safe_load(text)["spec"]["template"]["spec"]["containers"][0])
    assert "REDIS_URL" not in front
    assert front["GATEWAY_TOKEN"]["secretKeyRef"]["name"] == "dreamseed-gateway-token"


def test_the_tunnel_of_an_instance_keeps_its_state_in_memory() -> None:
    """The image's start takes a TS_STATE_DIR for a folder, whatever it says (containerboot)."""
    service = yaml.safe_load(_texts(_with())["cloud-run/service.yaml"])
    (tunnel,) = [one for one in service["spec"]["template"]["spec"]["containers"] if one["name"] == "tunnel"]
    assert "TS_STATE_DIR" not in _env(tunnel)
    assert _env(tunnel)["TS_USERSPACE"] == "true"


def test_what_containers_mount_is_rendered_beside_them() -> None:
    """Docker would make an empty folder of one that is missing, and Prometheus find no configuration."""
    texts = _texts(_with())
    folders = re.findall(r"^ +- \.\./([a-z]+)[/:]", texts["compose/compose.yaml"], re.MULTILINE)
    assert set(folders) == {"prometheus", "grafana"}
    for folder in folders:
        assert any(path.startswith(f"{folder}/") for path in texts)
        assert f"`{folder}`" in texts["compose/compose.yaml"].partition("\nname:")[0]


def test_the_tunnels_key_need_not_end() -> None:
    """Tailscale's auth keys live 90 days; an OAuth client's secret does not end, but has to say its tag."""
    texts = _texts(_with())
    assert "value: --advertise-tags=tag:front" in texts["cloud-run/service.yaml"]
    page = " ".join(texts["way-in/tailscale.md"].split())
    assert "OAuth client that may write auth keys, for `tag:front`" in page
    assert "tag:front" in json.loads(texts["way-in/policy.json"])["tagOwners"]


def test_everybody_reaches_the_front_that_asks_for_keys_itself() -> None:
    """A Cloud Run service is private by default: it answers 403 to callers without a Google identity."""
    annotations = yaml.safe_load(_texts(_with())["cloud-run/service.yaml"])["metadata"]["annotations"]
    assert annotations["run.googleapis.com/ingress"] == "all"
    assert annotations["run.googleapis.com/invoker-iam-disabled"] == "true"


def test_the_front_takes_the_fallback_that_is_rendered() -> None:
    """By its own reader of variables (§H2): nothing is missing, and prices keep their millionths."""
    fallback = FALLBACK | {"input_usd_per_mtok": 0.000001, "monthly_cap_usd": 1234.5}
    service = yaml.safe_load(_texts(_with(cloud_run={"fallback": fallback}))["cloud-run/service.yaml"])
    front = _env(service["spec"]["template"]["spec"]["containers"][0])
    assert front["FALLBACK_API_KEY"]["secretKeyRef"]["name"] == "dreamseed-fallback-key"
    told = {name: value if isinstance(value, str) else "a-secret" for name, value in front.items()}
    settings = read_settings(told | {"K_SERVICE": "dreamseed-api"})
    assert (settings.fallback_url, settings.fallback_model) == (fallback["url"], fallback["model"])
    assert settings.fallback_input_usd_per_mtok == Decimal("0.000001")
    assert settings.fallback_monthly_cap_usd == Decimal("1234.5")
    assert "FALLBACK" not in _texts(_with())["cloud-run/service.yaml"]


def test_the_documents_figures_of_cloud_run_are_the_defaults() -> None:
    """§C1, to the letter; another profile's are taken instead."""
    template = yaml.safe_load(_texts(_with())["cloud-run/service.yaml"])["spec"]["template"]
    assert template["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"] == "10"
    assert (template["spec"]["containerConcurrency"], template["spec"]["timeoutSeconds"]) == (100, 300)
    assert template["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "4Gi"}
    changed = _texts(_with(cloud_run={"max_instances": 3, "project": "mine"}))["cloud-run/service.yaml"]
    assert 'maxScale: "3"' in changed
    assert "@mine.iam.gserviceaccount.com" in changed


@pytest.mark.parametrize("plan", ["free", "pro"])
def test_terraform_and_the_payloads_say_the_same(plan: str) -> None:
    """One list of rules, written twice: read again, they are equal in every phase."""
    texts = _texts(_with(domain="learn.example", cloudflare_plan=plan))
    written = {
        ruleset["phase"]: ruleset["rules"]
        for resource in _plain(hcl2.loads(texts["cloudflare/main.tf"])["resource"])
        for ruleset in resource.get("cloudflare_ruleset", {}).values()
    }
    payloads = {
        phase: json.loads(texts[f"cloudflare/{name}.json"])["rules"]
        for name, phase in _PHASES.items()
        if f"cloudflare/{name}.json" in texts
    }
    assert written == payloads
    assert len(payloads) == (2 if plan == "free" else 4)
    assert "learn.example" in json.dumps(payloads)


def _plain(read: Any) -> Any:
    """What the parser of HCL gives, without the quotation marks that it leaves on texts and names."""
    if isinstance(read, dict):
        return {_plain(name): _plain(value) for name, value in read.items()}
    if isinstance(read, list):
        return [_plain(one) for one in read]
    return json.loads(read) if isinstance(read, str) and read.startswith('"') else read


_PHASES = {
    "cache-rules": "http_request_cache_settings",
    "images-rules": "http_config_settings",
    "waf-rules": "http_request_firewall_managed",
    "rate-limit-rules": "http_ratelimit",
}


def test_the_page_says_where_each_payload_goes() -> None:
    """JSON has no first lines to say it."""
    page = (Path(__file__).parents[3] / "docs/runbooks/deploy.md").read_text()
    payloads = [path for path in _texts(_with()) if re.fullmatch(r"cloudflare/.*\.json", path)]
    assert {path.partition("/")[2] for path in payloads} == {f"{name}.json" for name in _PHASES}
    for name, phase in _PHASES.items():
        assert f"| `{name}.json` | `{phase}` |" in page


@pytest.mark.parametrize("plan", ["free", "pro", "business"])
def test_no_zone_is_asked_for_what_its_plan_refuses(plan: str) -> None:
    """An edge TTL is an hour or more on Pro, two on Free; a free rate limit knows the path only."""
    texts = _texts(_with(cloudflare_plan=plan))
    edge = [
        rule["action_parameters"]["edge_ttl"]
        for rule in json.loads(texts["cloudflare/cache-rules.json"])["rules"]
    ]
    assert [one["mode"] for one in edge] == ["override_origin", "respect_origin"]
    assert all(one.get("default", 7200) >= 7200 for one in edge)
    (rate,) = json.loads(texts["cloudflare/rate-limit-rules.json"])["rules"]
    assert ("http.host" in rate["expression"]) is (plan != "free")
    assert "mirage =" not in texts["cloudflare/main.tf"]


def test_a_school_behind_one_address_can_be_let_through() -> None:
    """In both forms, by the profile."""
    texts = _texts(_with(cloudflare_answers_per_10_s=700))
    (rate,) = json.loads(texts["cloudflare/rate-limit-rules.json"])["rules"]
    assert rate["ratelimit"]["requests_per_period"] == 700
    assert re.search(r"requests_per_period = 700$", texts["cloudflare/main.tf"], re.MULTILINE)


def test_the_free_plan_gets_nothing_that_it_does_not_have() -> None:
    """Polish and the managed rules are paid for."""
    texts = _texts(_with(cloudflare_plan="free"))
    assert "polish" not in texts["cloudflare/main.tf"]
    assert "cloudflare/images-rules.json" not in texts


@pytest.mark.parametrize(
    ("way", "opened"),
    [("tailscale", "udp dport 41641"), ("wireguard", "udp dport 51820"), ("cloudflare", None)],
)
def test_the_firewall_opens_only_what_the_way_in_needs(way: str, opened: str | None) -> None:
    """The gateway's port is open to the tunnel's interface alone, never to the internet (§D1)."""
    lines = _texts(_with(way_in={"kind": way}))["host/nftables.conf"].splitlines()
    accepting = [line.strip() for line in lines if "accept" in line]
    assert all("iif" in line for line in accepting if "50051" in line)
    assert [line for line in accepting if line.startswith("udp")] == ([f"{opened} accept"] if opened else [])
    assert any("policy drop" in line for line in lines)


def _on_this_box(**services: Any) -> Profile:
    profile = load_profile("rtx5090x3").model_dump()
    return Profile.model_validate(profile | {"services": ON_THIS_BOX | services}, strict=False)


@pytest.mark.parametrize(
    ("profile", "kafka", "valkey"),
    [
        (load_profile("rtx5090x3"), 0, 0),
        (_on_this_box(), 3, 4),
        (_on_this_box(kafka={"mode": "external", "brokers": ("kafka.example:9092",)}), 0, 4),
    ],
)
def test_containers_are_those_that_the_profile_uses(profile: Profile, kafka: int, valkey: int) -> None:
    """An embedded service is started by `serve`, one elsewhere by somebody else."""
    compose = yaml.safe_load(_texts(profile)["compose/compose.yaml"])
    names = [name.partition("-")[0] for name in compose["services"]]
    assert (names.count("kafka"), names.count("valkey")) == (kafka, valkey)
    assert {"prometheus", "grafana"} <= set(names)
    assert all("max-size" in one["logging"]["options"] for one in compose["services"].values())
    files = {one["file"] for one in compose["secrets"].values()}
    assert set(compose_files(profile)) - {".env"} == files
    assert (".env" in compose_files(profile)) is bool(kafka)


def test_no_container_takes_the_port_of_another_or_of_alertmanager() -> None:
    """All are on the host's network; Prometheus calls an Alertmanager there."""
    text = _texts(_on_this_box())["compose/compose.yaml"]
    listening = re.findall(r"(?:PLAINTEXT|CONTROLLER)://127.0.0.1:(\d+)", re.sub(r"ADVERTISED.*", "", text))
    listening += re.findall(r"--port (\d+)|listen-address=127.0.0.1:(\d+)|HTTP_PORT: \"(\d+)", text)
    ports = ["".join(one) for one in listening]
    assert len(ports) == len(set(ports)) == 11
    assert ALERTMANAGER.partition(":")[2] not in ports


@pytest.mark.parametrize(
    ("lan", "said"),
    [("192.168.7.9/24", "ip saddr 192.168.7.0/24 tcp"), ("fd00::/8", "ip6 saddr fd00::/8 tcp")],
)
def test_the_house_may_have_either_kind_of_address(lan: str, said: str) -> None:
    """nft has a word for each, and refuses the other's addresses."""
    assert said in _texts(_with(host={"lan": lan}))["host/nftables.conf"]


@pytest.mark.parametrize(("lan", "kind"), [("10.0.0.0/8", "ip"), ("fd00::/8", "ip6")])
def test_nobody_can_shut_the_others_out_of_ssh(lan: str, kind: str) -> None:
    """A limit on all callers together is used up by one of them, and the operator is refused."""
    text = _texts(_with(host={"lan": lan}))["host/nftables.conf"]
    limits = re.findall(r"(.*)limit rate", text)
    assert [one.endswith(f"update @ssh_callers {{ {kind} saddr ") for one in limits] == [True]
    assert f"type {'ipv4_addr' if kind == 'ip' else 'ipv6_addr'}" in text


@pytest.mark.parametrize(
    "image", ["a-docker.pkg.dev/p/dreamseed/api:0.1.0", "host.example:5000/api@sha256:" + "0" * 64]
)
def test_an_image_has_a_tag_or_a_digest(image: str) -> None:
    """It stands in the service as it is told."""
    assert f"image: {image}\n" in _texts(_with(cloud_run={"image": image}))["cloud-run/service.yaml"]


def test_containers_are_pinned_and_on_loopback() -> None:
    """No moving tag, no port open to others."""
    compose = yaml.safe_load(_texts(_on_this_box())["compose/compose.yaml"])
    images = [one["image"] for one in compose["services"].values()]
    assert all(re.search(r":v?\d[\d.]*$", image) for image in images)
    brokers = [one for name, one in compose["services"].items() if name.startswith("kafka")]
    assert len(brokers) == 3
    assert all("127.0.0.1" in one["environment"]["KAFKA_LISTENERS"] for one in brokers)
    assert len({one["environment"]["KAFKA_NODE_ID"] for one in brokers}) == 3


def test_the_stack_may_finish_its_answers_before_systemd_kills_it() -> None:
    """Draining of gateway and engines, and a spare half minute."""
    unit = _texts(load_profile("rtx5090x3"))["systemd/dreamseed.service"]
    assert "TimeoutStopSec=70" in unit
    assert "PrivateDevices" not in unit  # the driver's devices
    assert "PrivateDevices=true" in _texts(load_profile("laptop"))["systemd/dreamseed.service"]


def test_what_is_timed_may_take_as_long_as_schedule_install_lets_it() -> None:
    """A first backup of much data takes longer than any limit that is thought of here."""
    texts = _texts(load_profile("laptop"))
    installed = {name: service_unit(["dreamseed"], {}) for name in (NAME, DRILL)}
    installed[LOOK] = service_unit(["dreamseed"], {}, limit=LOOK_LIMIT)
    for name, unit in installed.items():
        rendered = _service(texts[f"systemd/{name}.service"])
        assert rendered["TimeoutStartSec"] == _service(unit)["TimeoutStartSec"], name


def _with_ups(**rules: Any) -> Profile:
    ups = {"source": "apcupsd"} | rules
    return Profile.model_validate(load_profile("rtx5090x3").model_dump() | {"ups": ups}, strict=False)


def test_a_ups_is_watched_where_the_profile_has_one() -> None:
    """Without one `ups watch` ends at once: a unit would begin it anew every five seconds."""
    systemd = target("systemd")
    assert systemd is not None
    for profile, watched in ((_with_ups(), True), (load_profile("rtx5090x3"), False)):
        assert ("systemd/dreamseed-ups.service" in _texts(profile)) is watched
        assert ("-ups" in systemd.next_step(profile)) is watched


def test_the_ups_is_watched_while_the_stack_still_starts() -> None:
    """The stack's unit is started once an engine serves: minutes after a cut that emptied the battery."""
    lines = _texts(_with_ups())["systemd/dreamseed-ups.service"].splitlines()
    (after,) = (line for line in lines if line.startswith("After="))
    assert "dreamseed.service" not in after.split("=")[1].split()
    assert "Before=dreamseed.service" in lines


def test_what_a_restart_does_not_mend_is_not_restarted() -> None:
    """A wrong profile or a port that is taken is exit code 2, something missing 3."""
    units = {
        path: _service(text)
        for path, text in _texts(deploy_profiles()["whole"]).items()
        if path.endswith(".service")
    }
    restarted = {path: unit for path, unit in units.items() if "Restart" in unit}
    assert len(restarted) == 4
    for path, unit in restarted.items():
        assert unit["RestartPreventExitStatus"] == "2 3", path


def test_no_unit_that_needs_the_cards_is_closed_to_them() -> None:
    """`ProtectClock=` allows the clock's device, and systemd before 253 refuses all others then."""
    services = [
        _service(text)
        for profile in deploy_profiles().values()
        for path, text in _texts(profile).items()
        if path.endswith(".service")
    ]
    with_cards = [unit for unit in services if unit.get("PrivateDevices") != "true"]
    assert {"serve", "ups", "nvidia-smi"} == {unit["ExecStart"].split()[1] for unit in with_cards}
    assert all(unit.get("ProtectClock") != "true" and "DeviceAllow" not in unit for unit in with_cards)


def test_units_are_read_anew_and_running_ones_restarted() -> None:
    """systemd keeps what it has read, and a process its unit."""
    systemd = target("systemd")
    assert systemd is not None
    said = systemd.next_step(load_profile("laptop"))
    assert said.index("systemctl daemon-reload") < said.index("systemctl enable --now")
    assert "systemctl restart" in said


def test_the_ups_watcher_may_change_power_limits_only_where_it_is_to() -> None:
    """NVIDIA's kernel module asks for CAP_SYS_ADMIN, which is nearly all of root's rights."""
    base, shedding = (_with_ups(shed_power_limit_w=limit_w) for limit_w in (None, 450.0))
    rights = [_texts(one)["systemd/dreamseed-ups.service"] for one in (base, shedding)]
    assert ["CapabilityBoundingSet=CAP_SYS_ADMIN" in unit for unit in rights] == [False, True]


@pytest.mark.parametrize(("name", "cards"), [("rtx5090x3", True), ("laptop", False)])
def test_the_stack_starts_after_the_drivers_daemon(name: str, cards: bool) -> None:
    """Which makes the cards' device nodes at boot: the unit itself gains no rights to do so."""
    unit = _texts(load_profile(name))["systemd/dreamseed.service"]
    found = re.findall(r"^(After|Wants)=.*nvidia-persistenced.service$", unit, re.MULTILINE)
    assert sorted(found) == (["After", "Wants"] if cards else [])


def test_a_tag_is_owned_before_a_box_asks_for_it() -> None:
    """Tailscale refuses `--advertise-tags` of a tag that its policy does not know."""
    page = _texts(_with())["way-in/tailscale.md"]
    assert page.index("policy.json") < page.index("tailscale up --advertise-tags")


def test_nobody_comes_into_postgresql_from_elsewhere() -> None:
    """It listens on loopback and speaks no TLS, so a line for another host could never fit."""
    for profile in deploy_profiles().values():
        rules = [
            line.split()
            for line in _texts(profile)["postgres/pg_hba.conf"].splitlines()
            if not line.startswith("#")
        ]
        hosts = {rule[3] for rule in rules if rule[0] != "local"}
        assert hosts == {"127.0.0.1/32", "::1/128"}


def test_the_instance_in_the_cloud_is_no_replica() -> None:
    """It follows nothing, so there is nothing to promote; §E3's "normally stopped" is told by its policy."""
    script = _texts(_with())["cloud-sql/standby.sh"]
    commands = re.findall(r"^(\w+)\)", script, re.MULTILINE)
    assert commands == ["create", "start", "stop", "status"]
    assert "promote" not in script
    # A logical restore asks for a superuser, and Cloud SQL gives nobody one.
    steps = re.findall(r"^#   (.*)$", script, re.MULTILINE)
    assert not [one for one in steps if "restore" in one and "--dsn-env" in one]
    assert [one.split()[0] for one in steps if one.startswith(("dreamseed", "pg_"))] == [
        "dreamseed",
        "pg_dump",
        "pg_restore",
    ]
    assert {"ALWAYS", "NEVER"} == set(re.findall(r"--activation-policy=(\w+)", script))


def _service(text: str) -> dict[str, str]:
    """A unit's [Service] section; of a setting that comes twice the last, as systemd takes it."""
    unit = ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    return dict(unit["Service"])


def test_the_stacks_unit_is_the_documented_one() -> None:
    """Each setting of serve.md's, which adoption needs; but the time to stop follows from the profile."""
    page = (Path(__file__).parents[3] / "docs/runbooks/serve.md").read_text()
    documented = _service(page.partition("```ini\n")[2].partition("```")[0])
    documented.pop("TimeoutStopSec")
    assert {"Type", "WatchdogSec", "KillMode", "ExecStopPost"} <= set(documented)
    for name in shipped_names():
        rendered = _service(_texts(load_profile(name))["systemd/dreamseed.service"])
        assert {key: rendered.get(key) for key in documented} == documented, name


def test_engines_that_are_adopted_keep_their_temporary_files_and_shared_memory() -> None:
    """Between two runs systemd empties a private /tmp, and with RemoveIPC= what a user has in /dev/shm."""
    texts = _texts(load_profile("rtx5090x3"))
    stack = _service(texts["systemd/dreamseed.service"])
    assert (stack["PrivateTmp"], stack["ReadWritePaths"]) == ("false", "/tmp /var/tmp")  # noqa: S108 - no use
    assert all("RemoveIPC=true" not in text for path, text in texts.items() if path.endswith(".service"))


@pytest.mark.parametrize("name", shipped_names())
def test_no_unit_gives_the_stacks_folders_to_root(name: str) -> None:
    """systemd chowns a StateDirectory to the unit's user: root where it names none."""
    profile = load_profile(name).model_copy(update={"ups": _with_ups().ups})
    units = {path: text for path, text in _texts(profile).items() if path.endswith(".service")}
    of_root = {path: text for path, text in units.items() if "\nUser=" not in text}
    assert "systemd/dreamseed-ups.service" in of_root
    for path, text in of_root.items():
        assert not re.search(r"^(State|Cache|Logs|Runtime)Directory", text, re.MULTILINE), path
        assert "\nEnvironment=DREAMSEED_STATE_DIR=/var/lib/dreamseed " in text, path


@pytest.mark.parametrize("target_s", [900.0, 300.0])
def test_the_wal_leaves_as_often_as_wal_settings_says(target_s: float) -> None:
    """§E3: 15 minutes by the document; one rule for both."""
    profile = load_profile("rtx5090x3")
    backup = profile.backup.model_copy(update={"rpo_target_s": target_s})
    text = _texts(profile.model_copy(update={"backup": backup}))["postgres/postgresql.conf"]
    assert f"\narchive_timeout = {settings_for(['push'], target_s)['archive_timeout']}\n" in text


def test_wireguards_keys_are_the_profiles() -> None:
    """Each side has the other's; a placeholder that WireGuard refuses stands where there is none."""
    cloud, box = ("C" * 43 + "=", "B" * 43 + "=")
    way = {"kind": "wireguard"}
    texts = _texts(_with(way_in=way | {"cloud_public_key": cloud, "box_public_key": box}))
    assert f"\nPublicKey = {cloud}\n" in texts["way-in/wg0-box.conf"]
    assert f"\nPublicKey = {box}\n" in texts["way-in/wg0-cloud.conf"]
    assert "\nPublicKey = REPLACE_" in _texts(_with(way_in=way))["way-in/wg0-box.conf"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fallback", [None, FALLBACK])
def test_the_secrets_that_are_asked_for_are_those_that_are_referred_to(
    way: str, fallback: dict[str, Any] | None
) -> None:
    """By Cloud Run's service."""
    profile = _with(way_in={"kind": way}, cloud_run={"fallback": fallback})
    texts = _texts(profile)
    service = re.findall(r"(?:secretName|secretKeyRef:\n +name): (\S+)", texts["cloud-run/service.yaml"])
    assert set(cloud_secrets(profile)) == set(service)


def _watch_unit(**standby: Any) -> str:
    """The unit of `db watch`, of a profile with such a standby."""
    profile = load_profile("rtx5090x3").model_dump()
    profile["services"]["postgres"] |= {"mode": "external", "standby": standby}
    texts = _texts(Profile.model_validate(profile, strict=False))
    return texts["systemd/dreamseed-db-watch.service"]


def test_a_standby_gets_a_watch() -> None:
    """By the profile that it is in; without a standby there is nothing to watch."""
    unit = _watch_unit()
    assert "ExecStart=/opt/dreamseed/bin/dreamseed db watch --profile /etc/dreamseed/profile.toml" in unit
    assert "ProtectSystem=strict" in unit
    assert "ReadWritePaths" not in unit  # the service file lies in the state folder
    assert "systemd/dreamseed-db-watch.service" not in _texts(load_profile("rtx5090x3"))


@pytest.mark.parametrize(
    ("path", "folders"),
    [
        ("/srv/clients/database.service", ["/srv/clients"]),
        ("~/database.service", []),
        ("/database.service", []),
        ("/srv/%h/a.service", []),
        ("/srv/x\nExecStartPre=/bin/evil/a", []),
    ],
)
def test_the_watch_may_write_where_its_file_lies(path: str, folders: list[str]) -> None:
    """The profile lets any path through; a unit gets what is a plain one."""
    unit = _watch_unit(service_file=path)
    assert re.findall(r"^ReadWritePaths=(.*)$", unit, re.MULTILINE) == folders
    assert "evil" not in unit


def _of(table: str, **changed: Any) -> Mapping[str, str]:
    """The files of a profile that differs in one table."""
    profile = load_profile("rtx5090x3").model_dump()
    profile[table] |= changed
    return _texts(Profile.model_validate(profile, strict=False))


def test_backups_may_write_where_their_stores_lie() -> None:
    """Units see a read-only system; a bucket needs no folder, and what is more than a name gets none."""
    texts = _of("backup", store="local:/mnt/usb/backups", cold="s3:dreamseed-cold", temp="/srv/dumps")
    odd = _of("backup", store="local:/mnt/x\nExecStartPre=/bin/evil", temp="/srv/%h")
    for name in ("backup", "look", "drill"):
        unit = _service(texts[f"systemd/dreamseed-{name}.service"])
        assert unit["ReadWritePaths"] == "-/mnt/usb/backups -/srv/dumps"
        assert "ReadWritePaths" not in odd[f"systemd/dreamseed-{name}.service"]
        assert "ReadWritePaths" not in _texts(load_profile("rtx5090x3"))[f"systemd/dreamseed-{name}.service"]


def test_the_cards_power_limit_is_set_at_boot() -> None:
    """The profile's, before the stack loads them; without one nothing is set."""
    files = _of("box", gpu_power_limit_w=450.0)
    unit = files["systemd/dreamseed-power.service"]
    assert _service(unit)["ExecStart"] == "/usr/bin/env nvidia-smi -pl 450"
    assert re.search(r"^Before=dreamseed.service\b", unit, re.MULTILINE)
    assert all("-power" not in path for path in _texts(load_profile("rtx5090x3")))


def test_engines_in_containers_may_ask_docker() -> None:
    """Its socket belongs to its group; nobody else is given that."""
    unit = _of("engine", launcher="docker")["systemd/dreamseed.service"]
    assert _service(unit)["SupplementaryGroups"] == "docker"
    # At the host's end engines are drained before Docker ends them.
    assert re.search(r"^After=.* docker\.service$", unit, re.MULTILINE)
    assert "SupplementaryGroups" not in _texts(load_profile("rtx5090x3"))["systemd/dreamseed.service"]


def test_the_fronts_dockerfile_is_the_one_that_is_rendered() -> None:
    """The repository's build, a copy and no link: a checkout without symbolic links builds it, too."""
    root = Path(__file__).parents[3]
    assert (root / "deploy/api/Dockerfile").read_text() == _texts(_with())["cloud-run/Dockerfile"]


@pytest.mark.parametrize(
    "deploy",
    [
        {"domain": "not a name"},
        {"domain": "x.example\nevil"},
        {"host": {"install": "/opt/$(reboot)"}},
        {"host": {"lan": "anywhere"}},
        {"host": {"lan": "999.999.999.999/99"}},
        {"host": {"state": "/srv/dreamseed"}},
        {"host": {"state": "/var/lib/../srv"}},
        {"way_in": {"box_side": "10.99.0.300/24"}},
        {"way_in": {"cloud_side": "fd00::2/128"}},
        {"cloud_run": {"image": "a.example/x:1\n          command: [reboot]"}},
        {"cloud_run": {"cpu": 3}},
        {"cloud_run": {"cpu": 2, "memory_gib": 32}},
        {"cloud_run": {"cpu": 8, "memory_gib": 2}},
        {"cloud_run": {"fallback": FALLBACK | {"url": "http://api.openai.com/v1"}}},
        {"cloud_run": {"fallback": FALLBACK | {"model": 'x"\n'}}},
        {"cloud_run": {"min_instances": 20, "max_instances": 10}},
        {"way_in": {"name": "gpu.example;rm"}},
        {"way_in": {"box_public_key": "A" * 43 + "=\nPostUp = reboot"}},
    ],
)
def test_what_is_no_name_is_refused_by_the_profile(deploy: dict[str, Any]) -> None:
    """Templates print what the profile lets through, so it lets nothing through that is more than a name."""
    with pytest.raises(ValueError, match="deploy"):
        _with(**deploy)
