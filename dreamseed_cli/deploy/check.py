"""What is missing before the rendered files work: names, accounts, tokens, programs, in order."""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from dreamseed_cli.core.address import is_loopback
from dreamseed_cli.deploy.containers import KAFKA_PORTS, VALKEY_PORTS, kafka_here, strangers, valkey_here
from dreamseed_cli.deploy.facts import ALERTMANAGER, box_address, front_image, gateway_name, gcp_project
from dreamseed_cli.deploy.secrets import cloud_secrets, compose_files, variables
from dreamseed_cli.profile.schema import Profile

_OPEN_TO_OTHERS = 0o077
_HOMES = ("/home/", "/root/", "/run/user/")
"""What systemd's ProtectHome= closes."""
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Need:
    """One thing. section: where the document asks for it. met: None where nobody can see it from here.

    remedy: how to get it.
    """

    name: str
    section: str
    met: bool | None
    remedy: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What is looked at on this box, so that tests can look elsewhere.

    addresses: the box's own; none: unknown.
    """

    environment: Mapping[str, str]
    which: Callable[[str], str | None]
    root: Path
    addresses: Sequence[str] = ()

    @classmethod
    def here(cls) -> Machine:
        addresses = [one.address.partition("%")[0] for card in psutil.net_if_addrs().values() for one in card]
        return cls(os.environ, shutil.which, Path("/"), addresses)


def needs(profile: Profile, machine: Machine) -> tuple[Need, ...]:
    """All of them, met or not."""
    return (
        *_names(profile),
        *_gateway(profile),
        *_way_in(profile, machine),
        *_cloud(machine),
        *_account(profile),
        *_box(profile, machine),
        *_secrets(profile, machine),
        *_beside(profile),
    )


def _names(profile: Profile) -> Iterator[Need]:
    deploy = profile.deploy
    yield Need(
        "the Google Cloud project",
        "C1",
        deploy.cloud_run.project is not None,
        "Make one, set deploy.cloud_run.project in the profile, and a budget alert in its billing.",
    )
    yield Need(
        "the gateway's name in the tunnel",
        "D2",
        deploy.way_in.name is not None or deploy.way_in.kind == "cloudflare",
        f"Set deploy.way_in.name in the profile; the files carry the example {gateway_name(profile)}.",
    )
    yield Need(
        "a store for backups that outlives this box",
        "E2",
        profile.backup.store is not None and not profile.backup.store.startswith("local:"),
        "Make a bucket and two keys (docs/runbooks/backup.md), set backup.store in the profile.",
    )


def _gateway(profile: Profile) -> Iterator[Need]:
    security = profile.gateway.security
    name = gateway_name(profile)
    yield _where_the_tunnel_ends(profile)
    yield Need(
        "the gateway's certificate",
        "D1",
        security.tls is not None,
        f"dreamseed certs create --name {name}, then set gateway.security.tls in the profile.",
    )
    yield Need(
        "the front's service token",
        "D1",
        security.service_tokens_file is not None,
        "dreamseed certs token, then "
        "set gateway.security.service_tokens_file; the same token is the secret dreamseed-gateway-token.",
    )


def _where_the_tunnel_ends(profile: Profile) -> Need:
    """WireGuard brings callers to the box's address in it, the others to loopback, where all look local."""
    host, security, address = profile.gateway.host, profile.gateway.security, box_address(profile)
    if profile.deploy.way_in.kind == "wireguard":
        return Need(
            "the gateway at the tunnel's address",
            "D2",
            host in (address, *_EVERYWHERE),
            f'Set gateway.host = "{address}" in the profile: on {host} nobody in the tunnel reaches it.',
        )
    return Need(
        "callers through the tunnel prove themselves",
        "D1",
        bool(security.require_authentication) or not is_loopback(host),
        "Set gateway.security.require_authentication = true: behind the tunnel everybody looks local.",
    )


def _way_in(profile: Profile, machine: Machine) -> Iterator[Need]:
    program, package = {
        "tailscale": ("tailscale", "tailscale"),
        "cloudflare": ("cloudflared", "cloudflared"),
        "wireguard": ("wg", "wireguard-tools"),
    }[profile.deploy.way_in.kind]
    yield Need(
        f"{program} on this box",
        "D2",
        machine.which(program) is not None,
        f"Install {package} and follow the rendered way-in.",
    )
    if profile.deploy.way_in.kind == "wireguard":
        yield Need(
            "the public keys of WireGuard's two sides",
            "D2",
            None not in (profile.deploy.way_in.box_public_key, profile.deploy.way_in.cloud_public_key),
            "Set deploy.way_in.box_public_key and cloud_public_key: the files carry a placeholder.",
        )


def _cloud(machine: Machine) -> Iterator[Need]:
    for program, section, what in (
        ("gcloud", "C1", "the Google Cloud CLI"),
        ("docker", "C1", "Docker or Podman, for the front's image and what stands beside the stack"),
        ("terraform", "C2", "Terraform or OpenTofu, unless you send Cloudflare's payloads yourself"),
    ):
        yield Need(f"{program}", section, machine.which(program) is not None, f"Install {what}.")
    yield Need(
        "a token for Cloudflare",
        "C2",
        bool(machine.environment.get("CLOUDFLARE_API_TOKEN")),
        "Make one that may edit this zone's rulesets and DNS; export CLOUDFLARE_API_TOKEN to apply.",
    )


def _account(profile: Profile) -> Iterator[Need]:
    """What lies in the Google Cloud project: nothing here asks it."""
    run, project = profile.deploy.cloud_run, gcp_project(profile)
    account = f"{run.service}@{project}.iam.gserviceaccount.com"
    yield Need(
        f"the front's service account {account}",
        "C1",
        None,
        f"gcloud iam service-accounts create {run.service} --project {project}",
    )
    for name in cloud_secrets(profile):
        yield Need(
            f"the secret {name} in Secret Manager",
            "C1",
            None,
            f"gcloud secrets create {name} --data-file=FILE --project {project}; gcloud secrets "
            f"add-iam-policy-binding {name} --member=serviceAccount:{account} "
            f"--role=roles/secretmanager.secretAccessor --project {project}",
        )
    yield Need(
        f"the registry of {front_image(profile)}",
        "C1",
        None,
        f"gcloud artifacts repositories create dreamseed --repository-format=docker --location={run.region} "
        f"--project {project}"
        if run.image is None
        else "Push the front's image there; the service account has to be allowed to read it.",
    )
    yield Need(
        f"an address that answers as api.{profile.deploy.domain}",
        "C2",
        None,
        "A load balancer before the service, or a domain mapping where the region has it: Terraform's "
        "api_target (docs/runbooks/deploy.md).",
    )


def _box(profile: Profile, machine: Machine) -> Iterator[Need]:
    host = profile.deploy.host
    yield Need(
        "the program at its place",
        "G",
        _is_there(machine.root / host.install.removeprefix("/") / "bin" / "dreamseed"),
        f"python3 -m venv {host.install} and install the wheel there.",
    )
    yield Need(
        f"the user {host.user}",
        "G",
        _is_user(machine.root / "etc/passwd", host.user),
        "dreamseed deploy render host --apply, then systemd-sysusers, then "
        f"install -d -o {host.user} -g {host.user} -m 700 {host.state}.",
    )
    yield from _ups(profile, machine)
    yield _outside_of_homes(profile)
    yield _house(profile, machine)
    yield Need(
        "the profile at its place",
        "G",
        _is_there(machine.root / host.config.removeprefix("/") / "profile.toml"),
        f"Copy it to {host.config}/profile.toml.",
    )
    secrets = machine.root / host.config.removeprefix("/") / "secrets.env"
    yield Need(
        "the secrets' file, closed to others",
        "C1",
        _is_closed(secrets),
        f"Write the lines NAME=value that your stores need to {host.config}/secrets.env, mode 0600.",
    )
    if profile.card_engine is not None:
        yield Need(
            "the NVIDIA driver",
            "B2",
            (machine.root / "proc/driver/nvidia/version").exists(),
            "Install the driver that your cards and vLLM's CUDA ask for, then restart.",
        )


def _ups(profile: Profile, machine: Machine) -> Iterator[Need]:
    """What talks to the UPS. Where another host has it, that one is asked, not looked at."""
    programs = {"apcupsd": ("apcupsd", "apcupsd"), "nut": ("upsd", "nut-server")}  # and Debian's packages
    if profile.ups.source in programs and is_loopback(profile.ups.host):
        program, package = programs[profile.ups.source]
        yield Need(
            f"{program} on this box",
            "H3",
            # Not in everybody's PATH.
            machine.which(program) is not None or _is_there(machine.root / "usr/sbin" / program),
            f"Install {package} and set it up for your UPS (docs/runbooks/ups.md).",
        )


def _outside_of_homes(profile: Profile) -> Need:
    """A model, a certificate, a store: what works by hand is not there for the units."""
    found = sorted(_in_homes(profile.model_dump(mode="json")))
    return Need(
        "nothing that the profile names in people's homes",
        "G",
        not found,
        f"Homes are closed to the units: move {', '.join(found)} below {profile.deploy.host.state}.",
    )


def _in_homes(value: object, place: str = "") -> Iterator[str]:
    """Where in the profile a path below a home stands; `~` is that of whoever runs it: the state folder."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _in_homes(part, f"{place}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for part in value:
            yield from _in_homes(part, place)
    elif isinstance(value, str) and value.removeprefix("local:").startswith(_HOMES):
        yield place


def _house(profile: Profile, machine: Machine) -> Need:
    """The firewall lets nobody else in: the default is not every house's network."""
    lan = ipaddress.ip_network(profile.deploy.host.lan)
    return Need(
        "the network from which the box is administered",
        "D1",
        any(_is_in(one, lan) for one in machine.addresses) if machine.addresses else None,
        f"Set deploy.host.lan before the firewall is loaded: it lets SSH in from {lan} and the tunnel alone, "
        "and this box has no address there.",
    )


def _is_in(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False  # a card's MAC address


def _is_there(path: Path) -> bool | None:
    """None where this user may not look."""
    try:
        return path.exists()
    except PermissionError:
        return None


def _is_closed(path: Path) -> bool | None:
    """Whether it is there, for its owner alone; None where this user may not look."""
    there = _is_there(path)
    return not path.stat().st_mode & _OPEN_TO_OTHERS if there else there


def _is_user(passwd: Path, name: str) -> bool:
    try:
        lines = passwd.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.partition(":")[0] == name for line in lines)


def _secrets(profile: Profile, machine: Machine) -> Iterator[Need]:
    """What secrets.env has to hold; and, for a PostgreSQL of one's own, what its user needs."""
    config = profile.deploy.host.config
    found = _variables_in(machine.root / config.removeprefix("/") / "secrets.env")
    for name, asked_by in variables(profile).items():
        yield Need(
            f"{name} in secrets.env",
            "C1",
            None if found is None else name in found,
            f"Write {name}=... to {config}/secrets.env, for {asked_by}.",
        )
    if profile.services.postgres.mode == "external":
        archive = machine.root / config.removeprefix("/") / "archive.env"
        yield Need(
            "archive.env for PostgreSQL's user, closed to others",
            "E3",
            _is_closed(archive),
            f"archive_command reads {config}/archive.env: docs/runbooks/wal.md says what it holds.",
        )


def _variables_in(path: Path) -> set[str] | None:
    """The names in a file of NAME=value; None if this user may not read it."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return set()
    except OSError:
        return None
    return {line.partition("=")[0].strip() for line in lines if line.partition("=")[2].strip()}


def _beside(profile: Profile) -> Iterator[Need]:
    """What compose.yaml needs beside it, and what Prometheus calls that nothing here starts."""
    services = profile.services
    for setting, here, addresses, ports in (
        ("services.kafka.brokers", kafka_here(profile), services.kafka.brokers, KAFKA_PORTS),
        ("services.redis.nodes", valkey_here(profile), services.redis.nodes, VALKEY_PORTS),
    ):
        if here:
            yield Need(
                f"{setting} on compose.yaml's ports",
                "A1",
                not strangers(addresses, ports),
                f"Name 127.0.0.1 with {', '.join(map(str, ports))}: the containers listen there.",
            )
    for name in compose_files(profile):
        yield Need(f"{name} beside compose.yaml", "A1", None, "compose.yaml's first lines say what is in it.")
    yield Need(
        f"an Alertmanager at {ALERTMANAGER}",
        "G",
        None,
        "Run your own, that knows whom to tell; without one alerts are seen in Grafana only.",
    )
