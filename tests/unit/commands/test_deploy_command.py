"""`dreamseed deploy`: folders, drift, what is missing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.app import main
from dreamseed_cli.deploy.catalog import TARGETS
from dreamseed_cli.deploy.check import Machine, needs
from dreamseed_cli.deploy.installed import install
from dreamseed_cli.deploy.render import render
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import Profile


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Exit code, and stdout and stderr of a command."""

    def once(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["deploy", *arguments, "--profile", "rtx5090x3"])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return once


def test_it_lists_what_there_is(run: Callable[..., tuple[int, str]]) -> None:
    """Each target with the document's section; nothing is written."""
    code, said = run("render", "--json")
    targets = {one["target"]: one for one in json.loads(said)["data"]["targets"]}
    assert code == 0
    assert targets["cloud-run"]["section"] == "C1"
    assert "systemd" in run("render")[1]


def test_a_second_rendering_changes_nothing(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """Byte for byte, and it says so."""
    out = tmp_path / "out"
    code, said = run("render", "all", "--out", str(out))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert (code, "new or different" in said) == (0, True)
    code, said = run("render", "all", "--out", str(out), "--json")
    assert (code, json.loads(said)["data"]["changed"]) == (0, [])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_what_was_changed_by_hand_is_not_overwritten(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Unless it is told to; and nothing else is written before."""
    run("render", "host", "--out", str(tmp_path))
    path = tmp_path / "host/journald.conf"
    path.write_text(path.read_text() + "# mine\n")
    code, said = run("render", "host", "--out", str(tmp_path))
    assert (code, "host/journald.conf" in said, "# mine" in path.read_text()) == (2, True, True)
    assert run("render", "host", "--out", str(tmp_path), "--force")[0] == 0
    assert "# mine" not in path.read_text()


def test_what_was_not_rendered_is_not_overwritten(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Such as a compose file that was there before; one with the same text is ours to take."""
    path = tmp_path / "compose/compose.yaml"
    path.parent.mkdir()
    path.write_text("services: {mine: {}}\n")
    code, said = run("render", "compose", "--out", str(tmp_path))
    assert (code, "not rendered here: compose/compose.yaml" in said) == (2, True)
    assert "mine" in path.read_text()
    assert run("render", "compose", "--out", str(tmp_path), "--force")[0] == 0
    (tmp_path / "rendered.json").unlink()
    assert run("render", "compose", "--out", str(tmp_path))[0] == 0


def test_a_file_that_the_profile_no_longer_has_goes(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """But only of the targets that are rendered, and a deleted one comes back."""
    run("render", "way-in", "--out", str(tmp_path))
    (tmp_path / "way-in/policy.json").unlink()
    manifest = tmp_path / "rendered.json"
    known = json.loads(manifest.read_text())
    for old in ("way-in/old.conf", "host/old.conf"):
        (tmp_path / old).parent.mkdir(exist_ok=True)
        (tmp_path / old).write_text("")
        known[old] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest.write_text(json.dumps(known))
    assert run("render", "way-in", "--out", str(tmp_path))[0] == 0
    assert not (tmp_path / "way-in/old.conf").exists()
    assert (tmp_path / "host/old.conf").exists()
    assert (tmp_path / "way-in/policy.json").exists()


@pytest.mark.parametrize("content", ["not json", "[]"])
def test_a_broken_list_of_what_was_rendered_is_as_none(
    run: Callable[..., tuple[int, str]], tmp_path: Path, content: str
) -> None:
    """It is ours alone: it is written anew."""
    (tmp_path / "rendered.json").write_text(content)
    assert run("render", "host", "--out", str(tmp_path))[0] == 0
    assert "host/journald.conf" in json.loads((tmp_path / "rendered.json").read_text())


def test_drift_is_shown_and_applying_ends_it(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """What somebody else had at that place is kept beside it, once; and what was changed by hand since."""
    root = ("--root", str(tmp_path))
    assert run("diff", "host", *root)[0] == 1
    journal = tmp_path / "etc/systemd/journald.conf.d/dreamseed.conf"
    journal.parent.mkdir(parents=True)
    journal.write_text("[Journal]\nSystemMaxUse=1G\n")
    code, said = run("diff", "host", *root)
    assert (code, "-SystemMaxUse=1G" in said, "absent" in said) == (1, True, True)

    code, said = run("render", "host", "--apply", *root)
    assert (code, str(journal) in said) == (0, True)
    assert journal.with_name("dreamseed.conf.before-dreamseed~").read_text().endswith("=1G\n")
    assert run("diff", "host", *root)[0] == 0
    assert "already" in run("render", "host", "--apply", *root)[1]
    journal.write_text("[Journal]\n")
    journal.chmod(0o600)
    run("render", "host", "--apply", *root)
    assert journal.with_name("dreamseed.conf.before-dreamseed~").read_text().endswith("=1G\n")
    last = journal.with_name("dreamseed.conf.last-dreamseed~")
    assert (last.read_text(), last.stat().st_mode & 0o777) == ("[Journal]\n", 0o600)


def test_what_other_users_programs_read_is_open_whatever_the_umask(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Prometheus in its container has another user than the one who rendered. The folder itself is theirs."""
    before = os.umask(0o077)
    try:
        run("render", "host", "--apply", "--root", str(tmp_path / "root"))
        run("render", "prometheus", "--out", str(tmp_path / "out"))
    finally:
        os.umask(before)
    folders = ("root/etc/systemd", "root/etc/systemd/journald.conf.d", "out/prometheus", "out")
    assert [(tmp_path / one).stat().st_mode & 0o777 for one in folders] == [0o755, 0o755, 0o755, 0o700]


def test_a_folder_where_a_file_should_be_is_told(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """Root cannot write it either."""
    (tmp_path / "etc/systemd/journald.conf.d/dreamseed.conf").mkdir(parents=True)
    code, said = run("render", "host", "--apply", "--root", str(tmp_path))
    assert (code, "Clear the place" in said) == (3, True)


def test_a_file_that_is_open_to_others_has_drifted(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Its text is right: only its rights are mended, and nothing is kept beside it."""
    root = ("--root", str(tmp_path))
    run("render", "host", "--apply", *root)
    journal = tmp_path / "etc/systemd/journald.conf.d/dreamseed.conf"
    journal.chmod(0o666)
    code, said = run("diff", "host", *root)
    assert (code, "rights" in said, "-mode 0666" in said) == (1, True, True)
    assert str(journal) in run("render", "host", "--apply", *root)[1]
    assert (journal.stat().st_mode & 0o777, list(journal.parent.iterdir())) == (0o644, [journal])
    assert run("diff", "host", *root)[0] == 0


def test_what_an_earlier_profile_left_is_shown(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """By its first line: a tunnel's file that somebody else wrote is none of ours."""
    base = load_profile("rtx5090x3")
    way = base.deploy.way_in.model_copy(update={"kind": "wireguard"})
    earlier = base.model_copy(
        update={
            "deploy": base.deploy.model_copy(update={"way_in": way}),
            "ups": base.ups.model_copy(update={"source": "apcupsd"}),
        }
    )
    install(render(earlier, TARGETS), tmp_path)
    others = tmp_path / "etc/cloudflared/config.yml"
    others.parent.mkdir()
    others.write_text("tunnel: mine\n")
    install(render(base, TARGETS), tmp_path)

    code, said = run("diff", "--root", str(tmp_path), "--json")
    left = [one["place"] for one in json.loads(said)["data"]["files"] if one["drift"] == "left"]
    unit, tunnel = "etc/systemd/system/dreamseed-ups.service", "etc/wireguard/wg0.conf"
    assert (code, left) == (1, [str(tmp_path / unit), str(tmp_path / tunnel)])
    assert "disable" in run("diff", "--root", str(tmp_path))[1]
    for one in left:
        Path(one).unlink()
    assert run("diff", "--root", str(tmp_path))[0] == 0


def test_what_to_do_then_is_in_the_order_to_do_it(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """A unit whose user is not there yet fails."""
    said = run("render", "all", "--apply", "--root", str(tmp_path))[1].partition("Then:")[2]
    assert 0 < said.index("systemd-sysusers") < said.index("systemctl enable --now dreamseed")


def test_a_target_without_files_here_has_no_drift(run: Callable[..., tuple[int, str]]) -> None:
    """Such as Cloud Run's."""
    code, said = run("diff", "cloud-run")
    assert (code, "no files on this box" in said) == (0, True)


def test_a_place_that_cannot_be_written_is_told_with_what_was_done(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """A file in a folder's place stops root as well."""
    (tmp_path / "etc").write_text("")
    code, said = run("render", "host", "--apply", "--root", str(tmp_path))
    assert (code, "Clear the place" in said, "put in place before: nothing" in said) == (3, True, True)
    assert "unreadable" in run("diff", "host", "--root", str(tmp_path))[1]


def test_a_folder_that_cannot_be_written_is_told(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """And where it could go."""
    (tmp_path / "out").write_text("")
    code, said = run("render", "host", "--out", str(tmp_path / "out"))
    assert (code, "--out" in said) == (4, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("render", "nope"), "Choose all"), (("render", "host", "--apply", "--out", "x"), "two places")],
)
def test_wrong_usage_is_told(
    run: Callable[..., tuple[int, str]], arguments: tuple[str, ...], words: str
) -> None:
    """Before anything is written."""
    code, said = run(*arguments)
    assert (code, words in said) == (2, True)


def test_what_is_missing_is_told_in_order(run: Callable[..., tuple[int, str]]) -> None:
    """Names first: everything else carries them."""
    code, said = run("check", "--json")
    found = json.loads(said)["data"]["needs"]
    assert (code, found[0]["name"]) == (1, "the Google Cloud project")
    assert all(one["remedy"] for one in found if not one["met"])
    assert "missing" in run("check")[1]


def test_nothing_is_missing_where_all_is_there(tmp_path: Path) -> None:
    """The secrets' file counts only if it is closed to others."""
    profile = load_profile("rtx5090x3").model_dump()
    profile["deploy"] = {"cloud_run": {"project": "mine"}, "way_in": {"name": "gpu.mine.ts.net"}}
    profile["backup"] |= {"store": "b2:bucket/one"}
    profile["gateway"]["security"] = {
        "tls": {"certificate": "c", "key": "k"},
        "service_tokens_file": "tokens",
        "require_authentication": True,
    }
    chosen = Profile.model_validate(profile, strict=False)
    for place in ("opt/dreamseed/bin/dreamseed", "etc/dreamseed/profile.toml", "proc/driver/nvidia/version"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("")
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\ndreamseed:x:998:998::/:/bin/false\n")
    secrets = tmp_path / "etc/dreamseed/secrets.env"
    secrets.write_text("DREAMSEED_B2_KEY_ID=id\nDREAMSEED_B2_KEY=key\n")
    secrets.chmod(0o644)
    machine = Machine({"CLOUDFLARE_API_TOKEN": "t"}, lambda name: f"/bin/{name}", tmp_path)
    assert _missing(chosen, machine) == ["the secrets' file, closed to others"]
    secrets.chmod(0o600)
    assert _missing(chosen, machine) == []


def test_the_units_user_is_asked_for(tmp_path: Path) -> None:
    """By its whole name, before all that it owns."""
    name, profile = "the user dreamseed", load_profile("laptop")
    machine = Machine({}, lambda _: None, tmp_path)
    assert name in _missing(profile, machine)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("dreamseeds:x:1:1::/:/bin/sh\n")
    assert name in _missing(profile, machine)
    (tmp_path / "etc/passwd").write_text("dreamseed:x:1:1::/:/bin/sh\n")
    assert name not in _missing(profile, machine)


@pytest.mark.parametrize(
    ("lan", "addresses", "met"),
    [
        ("192.168.0.0/16", ["127.0.0.1", "10.1.2.3", "52:54:00:12:34:56"], False),
        ("192.168.0.0/16", ["10.1.2.3", "192.168.7.9"], True),
        ("fd00::/8", ["192.168.7.9", "fd12::1"], True),
        ("fd00::/8", [], None),
    ],
)
def test_a_firewall_that_would_lock_the_administrator_out_is_told_before(
    tmp_path: Path, lan: str, addresses: list[str], met: bool | None
) -> None:
    """A box that has no address in `deploy.host.lan` would not be reached by SSH from its own network."""
    profile = load_profile("laptop").model_dump()
    chosen = _asking(profile, deploy={"host": {"lan": lan}})
    told = {one.name: one for one in needs(chosen, Machine({}, lambda _: None, tmp_path, addresses))}
    found = told["the network from which the box is administered"]
    assert found.met is met
    assert lan in found.remedy


def _missing(profile: Profile, machine: Machine) -> list[str]:
    return [one.name for one in needs(profile, machine) if one.met is False]


def _asking(profile: dict[str, Any], **changes: Any) -> Profile:
    return Profile.model_validate(profile | changes, strict=False)


def test_every_variable_that_the_profile_names_is_asked_for(tmp_path: Path) -> None:
    """Of stores, services and a gated model; a name without a value does not count."""
    profile = load_profile("rtx5090x3").model_dump()
    profile["engine"] |= {"model": "meta-llama/Llama-2-13b-chat-hf"}
    profile["backup"] |= {"store": "b2:bucket/one", "cold": "s3:other"}
    profile["services"]["redis"] |= {"mode": "external", "nodes": ["r:1"], "password_env": "REDIS_PASSWORD"}
    profile["services"]["postgres"] |= {"mode": "external"}
    (tmp_path / "etc/dreamseed").mkdir(parents=True)
    secrets = tmp_path / "etc/dreamseed/secrets.env"
    secrets.write_text("# a comment\nREDIS_PASSWORD=\nDREAMSEED_B2_KEY=x\n")
    machine = Machine({}, lambda _: None, tmp_path)
    missing = _missing(_asking(profile), machine)
    assert [one.removesuffix(" in secrets.env") for one in missing if one.endswith("secrets.env")] == [
        "DREAMSEED_B2_KEY_ID",
        "DREAMSEED_S3_KEY_ID",
        "DREAMSEED_S3_KEY",
        "DREAMSEED_DATABASE_URL",
        "REDIS_PASSWORD",
        "HF_TOKEN",
    ]
    archive = "archive.env for PostgreSQL's user, closed to others"
    assert archive in missing
    (tmp_path / "etc/dreamseed/archive.env").touch(0o600)
    assert archive not in _missing(_asking(profile), machine)
    assert not [one for one in _missing(load_profile("laptop"), machine) if one.endswith("secrets.env")]


def test_what_lies_in_the_cloud_is_named_but_not_missing(run: Callable[..., tuple[int, str]]) -> None:
    """Nothing asks it: a person looks."""
    found = {one["name"]: one for one in json.loads(run("check", "--json")[1])["data"]["needs"]}
    secret = found["the secret dreamseed-gateway-token in Secret Manager"]
    assert (secret["met"], "gcloud secrets create" in secret["remedy"]) == (None, True)
    assert "the front's service account dreamseed-api@your-project.iam.gserviceaccount.com" in found
    assert found["an Alertmanager at 127.0.0.1:9093"]["met"] is None
    assert "cannot be seen from here" in run("check")[1]


def test_what_this_user_may_not_look_at_is_unseen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as a folder of secrets that is closed to all but root."""
    exists = Path.exists

    def closed(path: Path) -> bool:
        if path.parent == tmp_path / "etc/dreamseed":
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", closed)
    told = {one.name: one.met for one in needs(load_profile("laptop"), Machine({}, lambda _: None, tmp_path))}
    assert told["the profile at its place"] is None
    assert told["the secrets' file, closed to others"] is None
    assert told["the program at its place"] is False


def test_what_lies_in_a_home_is_told(tmp_path: Path) -> None:
    """Units cannot see it; what a person starts can."""
    machine, name = Machine({}, lambda _: None, tmp_path), "nothing that the profile names in people's homes"
    for shipped in shipped_names():
        assert {one.name: one.met for one in needs(load_profile(shipped), machine)}[name], shipped
    profile = load_profile("rtx5090x3").model_dump()
    profile["engine"]["model"] = "/home/ann/models/qwen"
    profile["backup"]["store"] = "local:/root/backups"
    profile["backup"]["temp"] = "/srv/home/temp"
    told = {one.name: one for one in needs(_asking(profile), machine)}[name]
    assert told.met is False
    assert "move backup.store, engine.model below /var/lib/dreamseed" in told.remedy


@pytest.mark.parametrize(("source", "program"), [("apcupsd", "apcupsd"), ("nut", "upsd")])
def test_the_upss_daemon_is_asked_for_where_it_has_to_be(tmp_path: Path, source: str, program: str) -> None:
    """On the host that has the UPS at its cable; without it nothing would stop the box in order."""
    profile = load_profile("rtx5090x3").model_dump()
    profile["ups"] |= {"source": source, "name": "ups"} if source == "nut" else {"source": source}
    machine, name = Machine({}, lambda _: None, tmp_path), f"{program} on this box"
    assert {one.name: one.met for one in needs(_asking(profile), machine)}[name] is False
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin" / program).touch()
    assert {one.name: one.met for one in needs(_asking(profile), machine)}[name] is True
    profile["ups"]["host"] = "192.168.1.9"
    assert name not in {one.name for one in needs(_asking(profile), machine)}
    assert name not in {one.name for one in needs(load_profile("rtx5090x3"), machine)}


@pytest.mark.parametrize(("node", "met"), [("127.0.0.1:7000", True), ("127.0.0.1:6379", False)])
def test_services_in_containers_are_where_the_containers_listen(tmp_path: Path, node: str, met: bool) -> None:
    """The rendered ones have ports of their own; nodes elsewhere are nobody's business here."""
    profile = load_profile("laptop").model_dump()
    profile["services"]["redis"] |= {"mode": "external", "nodes": [node]}
    machine = Machine({}, lambda _: None, tmp_path)
    told = {one.name: one.met for one in needs(_asking(profile), machine)}
    assert told["services.redis.nodes on compose.yaml's ports"] is met
    assert told["secrets/valkey.conf beside compose.yaml"] is None
    profile["services"]["redis"] |= {"nodes": ["redis.example:6379"]}
    names = [one.name for one in needs(_asking(profile), machine)]
    assert not [name for name in names if "valkey" in name or "services.redis" in name]


def _from_an_empty_box() -> list[str]:
    page = (Path(__file__).parents[3] / "docs/runbooks/deploy.md").read_text()
    block = page.partition("## From an empty box")[2].partition("```sh\n")[2].partition("```")[0]
    return re.findall(r"^(?:[^#\n]*/bin/)?dreamseed ([a-z].*)$", block, re.MULTILINE)


@pytest.mark.parametrize("line", _from_an_empty_box())
def test_a_step_from_an_empty_box_parses(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Verb and options exist (with --help behind them, nothing is done)."""
    with pytest.raises(SystemExit) as ended:
        main([*line.split(), "--help"])
    assert not ended.value.code, capsys.readouterr().err


def test_the_steps_from_an_empty_box_are_found() -> None:
    """Those that make something, in this order."""
    told = [" ".join(line.split()[:2]) for line in _from_an_empty_box()]
    order = ["deploy render", "certs create", "certs token", "backup init", "deploy render", "deploy check"]
    places = iter(told)
    assert all(one in places for one in order), told


def test_wireguard_needs_its_keys(tmp_path: Path) -> None:
    """Both: each side's file carries the other's."""
    key, machine = "A" * 43 + "=", Machine({}, lambda _: None, tmp_path)
    name = "the public keys of WireGuard's two sides"
    profile = load_profile("laptop").model_dump()
    one = {"kind": "wireguard", "box_public_key": key}
    assert name in _missing(_asking(profile, deploy={"way_in": one}), machine)
    assert name not in _missing(_asking(profile, deploy={"way_in": one | {"cloud_public_key": key}}), machine)


@pytest.mark.parametrize(
    ("way", "gateway", "met"),
    [
        ("wireguard", {}, False),
        ("wireguard", {"host": "10.99.0.2"}, False),
        ("wireguard", {"host": "10.99.0.1"}, True),
        ("wireguard", {"host": "0.0.0.0"}, True),  # noqa: S104 - what a profile may say
        ("tailscale", {}, False),
        ("tailscale", {"security": {"require_authentication": True}}, True),
        ("cloudflare", {"security": {"require_authentication": False}}, False),
    ],
)
def test_the_gateway_is_where_the_tunnel_ends(
    tmp_path: Path, way: str, gateway: dict[str, object], met: bool
) -> None:
    """At WireGuard's address, or on loopback with proof asked for: there everybody looks local."""
    profile = load_profile("laptop").model_dump() | {"deploy": {"way_in": {"kind": way}}}
    profile["gateway"] |= gateway
    chosen = _asking(profile)
    told = {one.name: one.met for one in needs(chosen, Machine({}, lambda _: None, tmp_path))}
    name = (
        "the gateway at the tunnel's address"
        if way == "wireguard"
        else "callers through the tunnel prove themselves"
    )
    assert told[name] is met
