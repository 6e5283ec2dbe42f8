"""Names and sizes of what lies around the box: cloud, tunnel, host (§C, §D2, §E1, §G). Nothing secret."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dreamseed_cli.profile.part import Count, Part, Port, Positive

_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
Host = Annotated[str, Field(max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})+$")]
Word = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
Folder = Annotated[str, Field(pattern=r"^(/\.?[A-Za-z0-9_-][A-Za-z0-9._-]*)+$")]


def _in_var_lib(folder: str) -> str:
    """systemd makes and owns a StateDirectory= below /var/lib only, and closes the rest to the units."""
    if not folder.startswith("/var/lib/"):
        raise ValueError("it has to lie below /var/lib, for the units: mount or link another disk there")
    return folder


def _network(text: str) -> str:
    """With zero for the host's part, as a firewall prints it."""
    return str(ipaddress.ip_network(text, strict=False))


def _interface(text: str) -> str:
    return str(ipaddress.IPv4Interface(text))


StateFolder = Annotated[Folder, AfterValidator(_in_var_lib)]
_ADDRESS_AND_LENGTH = Field(pattern=r"^[0-9a-f.:]+/[0-9]{1,3}$")
Network = Annotated[str, _ADDRESS_AND_LENGTH, AfterValidator(_network)]
TunnelAddress = Annotated[str, _ADDRESS_AND_LENGTH, AfterValidator(_interface)]
"""IPv4: what is rendered for the cloud's side forwards that."""
Image = Annotated[
    str,
    Field(
        max_length=400,
        pattern=r"^[a-z0-9][a-z0-9._/:-]*[a-z0-9](:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?$",
    ),
]
"""HOST/NAME, then a tag, a digest, or both."""
DocsUrl = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~%+-]+)*$")]
Money = Annotated[float, Field(ge=0, lt=1_000_000)]

WireGuardKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]


class FrontFallback(Part):
    """Who answers while the gateway is away (§H2): an OpenAI-compatible service, within a monthly cap.

    Its key is the secret `dreamseed-fallback-key`.
    """

    url: Annotated[str, Field(max_length=400, pattern=r"^https://[A-Za-z0-9._~/:-]+$")]
    """Its base address, such as https://api.openai.com/v1."""
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}$")]
    input_usd_per_mtok: Money
    """US dollars for a million tokens of prompt; your price."""
    output_usd_per_mtok: Money
    """US dollars for a million tokens of answer."""
    monthly_cap_usd: Money
    """The most that all fronts together spend in a calendar month (UTC)."""
    tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How its model calls the longest answer."""


_MEMORY_GIB = {1: (1, 4), 2: (1, 8), 4: (2, 16), 6: (4, 24), 8: (4, 32)}
"""The least and the most that Cloud Run gives with so many CPUs ("Configure CPU limits for services")."""


class CloudRun(Part):
    """The HTTP front on Cloud Run (§C1)."""

    project: Word | None = None
    """The Google Cloud project; None: files carry `your-project`."""
    region: Word = "asia-northeast3"
    service: Word = "dreamseed-api"
    image: Image | None = None
    """The front's image, with its tag or digest; None: this version's, in the project's own registry."""
    min_instances: Annotated[int, Field(ge=0, le=1000)] = 0
    max_instances: Annotated[int, Field(ge=1, le=1000)] = 10
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 100
    """Requests that one instance answers at a time."""
    timeout_s: Annotated[int, Field(ge=1, le=3600)] = 300
    cpu: Literal[1, 2, 4, 6, 8] = 2
    memory_gib: Annotated[int, Field(ge=1, le=32)] = 4
    fallback: FrontFallback | None = None
    """None: while the gateway is away, requests wait and fail."""

    @model_validator(mode="after")
    def _a_size_that_there_is(self) -> Self:
        least, most = _MEMORY_GIB[self.cpu]
        if not least <= self.memory_gib <= most:
            raise ValueError(
                f"memory_gib is {self.memory_gib}: with {self.cpu} CPUs Cloud Run gives {least} to {most} GiB"
            )
        return self


class WayIn(Part):
    """How Cloud Run reaches the gateway behind a dynamic address (§D2)."""

    kind: Literal["tailscale", "cloudflare", "wireguard"] = "tailscale"
    name: Host | None = None
    """The gateway's name in the tunnel, which its certificate carries; None: `gpu.` and an example's."""
    cloud_side: TunnelAddress = "10.99.0.2/32"
    """WireGuard: the cloud's address in the tunnel."""
    box_side: TunnelAddress = "10.99.0.1/24"
    """WireGuard: the box's."""
    port: Port = 51820
    """WireGuard's, on the fixed address."""
    cloud_public_key: WireGuardKey | None = None
    """WireGuard: the cloud's public key (`wg pubkey`); None: the files carry a placeholder."""
    box_public_key: WireGuardKey | None = None


class HostPlaces(Part):
    """Where things lie on the box, and who runs them."""

    user: Word = "dreamseed"
    install: Folder = "/opt/dreamseed"
    """The environment that the package is installed in."""
    state: StateFolder = "/var/lib/dreamseed"
    """Below /var/lib: systemd makes it and gives it to the user."""
    config: Folder = "/etc/dreamseed"
    lan: Network = "192.168.0.0/16"
    """From where the box may be administered (SSH). Grafana is on loopback: through SSH as well."""
    ssh_port: Annotated[int, Field(ge=1, le=65535)] = 22
    metrics_port: Annotated[int, Field(ge=1, le=65535)] = 9401
    """Where `dreamseed metrics` listens, on loopback."""
    log_gib: Count = 4
    """What the journal may take of the disk."""


class DatabaseBox(Part):
    """What PostgreSQL stands on, for its rendered configuration (§E1)."""

    memory_gib: Positive = 32
    cores: Count = 16
    storage: Literal["nvme", "ssd", "hdd"] = "nvme"
    disk_gib: Count = 2000
    connections: Count = 100
    """max_connections. §E1 has 500; the gateway and the front's share of it need some twenty."""
    version: Annotated[int, Field(ge=15)] = 18


class Monitoring(Part):
    """What Prometheus's alerts say beside what is wrong (§G)."""

    docs_url: DocsUrl | None = None
    """Where people read this project's `docs` folder: alerts link their page there (`runbook_url`). None:
    they only name its path in the project."""


class Deploy(Part):
    """What `dreamseed deploy` renders for other systems."""

    domain: Host = "dreamseed.ai"
    """The service's domain, in Cloudflare (§C2)."""
    cloud_run: CloudRun = CloudRun()
    way_in: WayIn = WayIn()
    host: HostPlaces = HostPlaces()
    database: DatabaseBox = DatabaseBox()
    monitoring: Monitoring = Monitoring()
    cloudflare_plan: Literal["free", "pro", "business"] = "pro"
    cloudflare_answers_per_10_s: Count = 50
    """What one address may ask the models for; users have limits of their own. A school behind one address
    is one."""

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        if self.cloud_run.min_instances > self.cloud_run.max_instances:
            raise ValueError("cloud_run: min_instances is more than max_instances")
        return self
