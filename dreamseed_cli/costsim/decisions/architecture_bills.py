"""The bills of the two architectures beside the hybrid: all in the cloud, and all at home (§A)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.billing.bill import Bill, Line
from dreamseed_cli.costsim.columns import each, plain
from dreamseed_cli.costsim.decisions.capacity import BUSY_SHARE
from dreamseed_cli.costsim.money import decimal
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.traffic import traffic
from dreamseed_cli.costsim.usage.week import over_hours
from dreamseed_cli.plan.parts import Card

HOME_LINES = frozenset({"electricity", "fixed-ip"})
"""The hybrid's lines that end when the box goes; its standby and its fallback end with them."""
STANDBY_LINES = frozenset({"cloud-sql", "fallback"})
KEPT_AT_HOME = HOME_LINES | {"domain"}
"""All that is left to pay without any cloud: §J1's $150 is just this."""
CLOUD_CARDS: Mapping[str, str] = {
    "cloud-l4": "l4",
    "cloud-a100-40": "a100-40g",
    "cloud-a100-80": "a100-80g",
    "cloud-h100": "h100-sxm",
}
"""On-demand instances by price id, with the card each has."""

SQL_COPIES = 2
"""A standby in another zone doubles everything."""


@dataclass(frozen=True, slots=True)
class Database:
    """What stands at home now (§E1)."""

    vcpus: int
    gib: int


@dataclass(frozen=True, slots=True)
class CloudCards:
    """Cloud GPUs of one kind for a month; they follow the hour's traffic, and one always runs."""

    price_id: str
    hours: float
    """Of all instances together, more of them in busy hours."""
    most: int
    """Instances in the busiest hour."""
    usd: Decimal


def on_premises_bill(hybrid: Bill) -> Bill:
    """What remains of the hybrid's bill without any cloud: no CDN, no copies elsewhere, no standby."""
    return Bill(tuple(line for line in hybrid.lines if line.key in KEPT_AT_HOME))


def full_cloud_bill(
    hybrid: Bill,
    scenario: Scenario,
    book: PriceBook,
    cards: Mapping[str, Card],
    home: str,
    database: Database,
) -> Bill:
    """The hybrid's cloud lines, with GPUs by the hour and Cloud SQL instead of the box.

    Lines say how they came about if the hybrid's do.
    home: the card at home, whose speed the scenario states; cloud cards decode as fast as their memory
    bandwidth lets them. Redis and Kafka are left out: what they cost there is on top. UsageError if the card
    at home is unknown.
    """
    kept = [line for line in hybrid.lines if line.key not in HOME_LINES | STANDBY_LINES]
    gpus = _cloud_cards(scenario, book, cards, home)
    told = any(line.how for line in hybrid.lines)
    usd: Decimal = each(min, *(one.usd for one in gpus))
    return Bill(
        (
            *kept,
            Line("cloud-gpu", "Cloud GPUs", usd, _how_gpus(gpus, book) if told else ""),
            Line(
                "cloud-sql",
                "Cloud SQL with a standby",
                _database_usd(scenario, book, database),
                _how_database(scenario, book, database) if told else "",
            ),
        )
    )


def _cloud_cards(
    scenario: Scenario, book: PriceBook, cards: Mapping[str, Card], home: str
) -> list[CloudCards]:
    if home not in cards:
        raise UsageError(
            f"no card is called '{home}'", place="box.gpu_model", remedy=f"Known are: {', '.join(cards)}."
        )
    load = traffic(scenario)
    tok_s = load.rps * load.generated_share * scenario.answer_tokens
    found = []
    for price_id, name in CLOUD_CARDS.items():
        speed = scenario.card_tok_s * cards[name].bandwidth_gb_s / cards[home].bandwidth_gb_s
        instances = np.maximum(np.ceil(tok_s / (speed * BUSY_SHARE)), 1)
        hours, most = over_hours(instances, load.hours), plain(instances.max(axis=0).astype(int))
        found.append(CloudCards(price_id, hours, most, book.usd(price_id, hours)))
    return found


def _how_gpus(cards: Iterable[CloudCards], book: PriceBook) -> str:
    gpus = min(cards, key=lambda one: one.usd)
    return (
        f"{gpus.hours:,.0f} h of {book.price(gpus.price_id).title}, up to {gpus.most:,} at a time, "
        f"x ${book.unit_usd(gpus.price_id):,.4f}/h"
    )


def _database_usd(scenario: Scenario, book: PriceBook, database: Database) -> Decimal:
    hours = SQL_COPIES * decimal(scenario.hours)
    cpus, memory = database.vcpus * hours, database.gib * hours
    return book.usd("cloud-sql-vcpu", cpus) + book.usd("cloud-sql-memory", memory)


def _how_database(scenario: Scenario, book: PriceBook, database: Database) -> str:
    vcpu, gib = book.unit_usd("cloud-sql-vcpu"), book.unit_usd("cloud-sql-memory")
    return (
        f"{SQL_COPIES} x ({database.vcpus} vCPU x ${vcpu:f} + {database.gib} GiB x ${gib:f}) x "
        f"{scenario.hours:,.0f} h, without its disk"
    )
