"""What can be rendered: targets, their files, and where each lies once it is installed. Data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dreamseed_cli.deploy.dashboards import DASHBOARDS
from dreamseed_cli.profile.schema import Profile

COMMAND = "/usr/local/bin/dreamseed"
"""Where people of a box find the program, as the stack's user runs it."""


def _always(_profile: Profile) -> bool:
    return True


def _standby(profile: Profile) -> bool:
    return profile.services.postgres.standby is not None


def _ups(profile: Profile) -> bool:
    return profile.ups.source != "none"


def _limited(profile: Profile) -> bool:
    return bool(profile.box.gpus) and profile.box.gpu_power_limit_w is not None


def _paid(profile: Profile) -> bool:
    return profile.deploy.cloudflare_plan != "free"


def _way(kind: str) -> Callable[[Profile], bool]:
    return lambda profile: profile.deploy.way_in.kind == kind


@dataclass(frozen=True, slots=True)
class Template:
    """One file of a target. install_at: its place on this box; None: it belongs elsewhere.

    mode: its rights. wanted: whether this profile has it.
    """

    source: str
    install_at: str | None = None
    mode: int = 0o644
    wanted: Callable[[Profile], bool] = _always

    @property
    def path(self) -> PurePosixPath:
        """Where it is rendered to, below the folder of all."""
        return PurePosixPath(self.source.removesuffix(".j2"))


def _unit(name: str, wanted: Callable[[Profile], bool] = _always) -> Template:
    return Template(f"systemd/{name}.j2", f"/etc/systemd/system/{name}", wanted=wanted)


@dataclass(frozen=True, slots=True)
class Target:
    """Files that belong together. section: where the document asks for them.

    then: what to do with them; a function of the profile where that follows from it.
    """

    name: str
    section: str
    summary: str
    then: str | Callable[[Profile], str]
    files: tuple[Template, ...]

    def next_step(self, profile: Profile) -> str:
        """`then`, for this profile."""
        return self.then if isinstance(self.then, str) else self.then(profile)


def _start_units(profile: Profile) -> str:
    """systemd reads units anew only when told, and what runs keeps its old one until it is restarted."""
    beside = [",-metrics", *([",-ups"] if _ups(profile) else []), *([",-power"] if _limited(profile) else [])]
    running = f"dreamseed{{{''.join(beside)}}}"
    said = (
        f"--apply, then systemctl daemon-reload && systemctl enable --now {running} "
        "dreamseed-{backup,look,drill}.timer; what ran before: systemctl restart it"
    )
    if _standby(profile):
        said += "; and dreamseed-db-watch, on a machine that does not die with the primary"
    return said


TARGETS = (
    Target(
        "host",
        "D1",
        "firewall, journal, log rotation, the user of the box, and the command as that user",
        "--apply, then systemd-sysusers; systemctl restart systemd-journald; set deploy.host.lan, then "
        "nft -f the firewall from a session that you can lose, include it in /etc/nftables.conf, and "
        "systemctl enable nftables: nothing loads it at boot otherwise",
        (
            Template("host/nftables.conf.j2", "/etc/nftables.d/dreamseed.conf", 0o755),
            Template("host/journald.conf.j2", "/etc/systemd/journald.conf.d/dreamseed.conf"),
            Template("host/logrotate.conf.j2", "/etc/logrotate.d/dreamseed"),
            Template("host/sysusers.conf.j2", "/etc/sysusers.d/dreamseed.conf"),
            Template("host/dreamseed.sh.j2", COMMAND, 0o755),
        ),
    ),
    Target(
        "systemd",
        "G",
        "units of the stack, backups, drills, UPS, metrics, the cards' power limit, a standby's watch",
        _start_units,
        (
            _unit("dreamseed.service"),
            _unit("dreamseed-backup.service"),
            _unit("dreamseed-backup.timer"),
            _unit("dreamseed-look.service"),
            _unit("dreamseed-look.timer"),
            _unit("dreamseed-drill.service"),
            _unit("dreamseed-drill.timer"),
            _unit("dreamseed-ups.service", wanted=_ups),
            _unit("dreamseed-metrics.service"),
            _unit("dreamseed-power.service", wanted=_limited),
            _unit("dreamseed-db-watch.service", wanted=_standby),
        ),
    ),
    Target(
        "postgres",
        "E1",
        "settings and access of PostgreSQL",
        "put them where your PostgreSQL reads its configuration, then restart it",
        (
            Template("postgres/postgresql.conf.j2"),
            Template("postgres/pg_hba.conf.j2"),
            Template("postgres/pg_ident.conf.j2"),
        ),
    ),
    Target(
        "way-in",
        "D2",
        "how Cloud Run reaches the box behind a dynamic address",
        "follow the first lines of each file",
        (
            Template("way-in/tailscale.md.j2", wanted=_way("tailscale")),
            Template("way-in/policy.json", wanted=_way("tailscale")),
            Template("way-in/cloudflared.yml.j2", "/etc/cloudflared/config.yml", wanted=_way("cloudflare")),
            Template("way-in/wg0-box.conf.j2", "/etc/wireguard/wg0.conf", 0o600, _way("wireguard")),
            Template("way-in/wg0-cloud.conf.j2", wanted=_way("wireguard")),
        ),
    ),
    Target(
        "cloud-run",
        "C1",
        "the HTTP front's service and image",
        "build the image, push it, then gcloud run services replace service.yaml",
        (Template("cloud-run/service.yaml.j2"), Template("cloud-run/Dockerfile")),
    ),
    Target(
        "cloudflare",
        "C2",
        "cache rules, images, WAF and rate limit, for Terraform and as API payloads",
        "terraform init && terraform apply, or send the payloads: docs/runbooks/deploy.md says where to",
        (
            Template("cloudflare/main.tf.j2"),
            Template("cloudflare/cache-rules.json"),
            Template("cloudflare/images-rules.json", wanted=_paid),
            Template("cloudflare/waf-rules.json", wanted=_paid),
            Template("cloudflare/rate-limit-rules.json"),
        ),
    ),
    Target(
        "compose",
        "A1",
        "Prometheus and Grafana; three Kafka brokers and Valkey nodes, where the profile has them here",
        "docker compose up -d, with prometheus and grafana rendered beside it (all), after the secrets that "
        "its first lines name",
        (Template("compose/compose.yaml.j2"),),
    ),
    Target(
        "prometheus",
        "G",
        "what Prometheus sees, computes and alerts on",
        "compose mounts the folder; elsewhere copy it to /etc/prometheus",
        tuple(
            Template(f"prometheus/{name}.j2") for name in ("prometheus.yml", "recording.yml", "alerts.yml")
        ),
    ),
    Target(
        "grafana",
        "G",
        "four dashboards: serving, cards and energy, data and backups, money",
        "compose mounts the folder; elsewhere copy it to /etc/grafana",
        (
            Template("grafana/provisioning/datasources/prometheus.yml"),
            Template("grafana/provisioning/dashboards/dreamseed.yml"),
            *(Template(f"grafana/dashboards/{one.name}.json") for one in DASHBOARDS),
        ),
    ),
    Target(
        "cloud-gpu",
        "H1",
        "the card in the cloud: create, start, stop",
        "sh failover.sh create, set vLLM up there, then take the # off [failover] in the profile",
        (Template("cloud-gpu/failover.sh.j2", mode=0o755),),
    ),
    Target(
        "cloud-sql",
        "E3",
        "an empty database in the cloud, for the data of a backup",
        "sh standby.sh create, then stop; its first lines say what it takes to use it",
        (Template("cloud-sql/standby.sh.j2", mode=0o755),),
    ),
)


def unwanted(profile: Profile, targets: Sequence[Target]) -> tuple[Template, ...]:
    """The templates of this box that this profile does not have, and an earlier one may have had."""
    files = (template for one in targets for template in one.files)
    return tuple(one for one in files if one.install_at and not one.wanted(profile))


def target(name: str) -> Target | None:
    """The target of this name."""
    return next((one for one in TARGETS if one.name == name), None)
