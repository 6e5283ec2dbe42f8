"""Cloud Run's two kinds of billing for the same month (§C1)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from dreamseed_cli.costsim.columns import each, ever
from dreamseed_cli.costsim.money import decimal
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.usage.cloud_run import CloudRunUse


@dataclass(frozen=True, slots=True)
class CloudRunCost:
    """A month, in US dollars."""

    cpu: Decimal
    memory: Decimal
    requests: Decimal
    idle: Decimal
    """Of min_instances, CPU and memory."""
    instance_based: Decimal
    """The whole month if instances are billed from start to end."""

    @property
    def request_based(self) -> Decimal:
        """The whole month if they are billed while they answer."""
        return self.cpu + self.memory + self.requests + self.idle

    @property
    def cheaper(self) -> Decimal:
        cheaper: Decimal = each(min, self.request_based, self.instance_based)
        return cheaper


def cloud_run_cost(
    book: PriceBook, use: CloudRunUse, *, vcpus: float, gib: float, region: str = ""
) -> CloudRunCost:
    """Both bills of instances of so many vCPUs and GiB.

    The free tier is for busy seconds, not for the idle ones of min_instances: with these, the first
    requests of a month make it cheaper by a dollar at most.
    """
    cpus, memory = decimal(vcpus), decimal(gib)
    busy, up = decimal(use.busy_s), decimal(use.up_s)
    idle = Decimal(0)
    if ever(use.idle_s):
        seconds = decimal(use.idle_s)
        idle = book.usd(f"cloud-run-idle-cpu{region}", cpus * seconds)
        idle += book.usd(f"cloud-run-idle-memory{region}", memory * seconds)
    instance = book.usd(f"cloud-run-instance-cpu{region}", cpus * up)
    instance += book.usd(f"cloud-run-instance-memory{region}", memory * up)
    return CloudRunCost(
        cpu=book.usd(f"cloud-run-cpu{region}", cpus * busy),
        memory=book.usd(f"cloud-run-memory{region}", memory * busy),
        requests=book.usd("cloud-run-requests", use.requests),
        idle=idle,
        instance_based=instance,
    )
