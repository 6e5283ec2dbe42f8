"""The lines of a month's bill, one function each: the amount, and how it is told in figures.

A Monte Carlo makes some ten thousand bills at once and reads no sentence: each is written only when it is
asked for. Amounts are decimals, or of columns (columns.py) columns of decimals.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import numpy as np

from dreamseed_cli.costsim.billing.choices import Choices
from dreamseed_cli.costsim.billing.cloud_run import cloud_run_cost
from dreamseed_cli.costsim.columns import plain
from dreamseed_cli.costsim.money import decimal, dollars
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.usage.month import Month

Draft = tuple[Decimal, Callable[[], str]]
LineOf = Callable[[Month, PriceBook, Choices], Draft]

SQL_LEAST_GB = 10.0
"""Cloud SQL's smallest disk."""
_GIB = 2**30 / 1e9
_MONTHS = 12


def electricity(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """The box's kWh under the tariff (§B2)."""
    box, hours = month.box, month.scenario.hours
    usd = book.electricity_usd(choices.tariff, box.kwh, choices.month)

    def how() -> str:
        return (
            f"{box.average_w:,.0f} W on average x {hours:,.0f} h = {box.kwh:,.1f} kWh under "
            f"{choices.tariff} (idle all month {box.idle_kwh:,.1f}, full load {box.full_kwh:,.1f} kWh); "
            f"cards used to {box.utilisation:.1%}, in the busiest hour to {box.peak_utilisation:.1%}"
        )

    return usd, how


def cloud_run(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """The cheaper kind of billing; both are told (§C1)."""
    one, use = month.scenario, month.cloud_run
    cost = cloud_run_cost(book, use, vcpus=one.instance_vcpus, gib=one.instance_gib, region=choices.region)

    def how() -> str:
        busy, up = use.busy_s / 3600, use.up_s / 3600
        idle = f" + idle {dollars(cost.idle)}" if cost.idle else ""
        by_request = (
            f"{busy:,.1f} busy instance-hours: CPU {dollars(cost.cpu)} + memory {dollars(cost.memory)} + "
            f"{use.requests:,.0f} requests {dollars(cost.requests)}{idle} = {dollars(cost.request_based)}"
        )
        by_instance = f"{up:,.1f} instance-hours = {dollars(cost.instance_based)}"
        refused = f"; {use.refused_requests:,.0f} requests refused" if use.refused_requests else ""
        peak = f"busiest hour {use.peak_in_flight:,.1f} requests at a time, {use.peak_instances} instances"
        if cost.request_based <= cost.instance_based:
            return f"request-based: {by_request}; instance-based: {by_instance}; {peak}{refused}"
        return f"instance-based: {by_instance}; request-based: {by_request}; {peak}{refused}"

    return cost.cheaper, how


def cloudflare(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """The plan; traffic is in it (§C2)."""
    return book.usd(
        f"cloudflare-{choices.cloudflare}", 1
    ), lambda: f"the plan '{choices.cloudflare}', a month"


def storage(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """Data and backups in the object store, and the CDN's reads of it, whose bytes are free (§C3)."""
    one, store = month.scenario, choices.store
    stored, reads = one.stored_gb * one.backup_copies, month.traffic.static_origin_requests
    kept, read = book.usd(f"{store}-storage", stored), book.usd(f"{store}-class-b", reads)

    def how() -> str:
        return (
            f"{one.stored_gb:,.1f} GB x {one.backup_copies:g} copies = {stored:,.1f} GB {dollars(kept)} + "
            f"{reads:,.0f} reads {dollars(read)}; "
            f"{month.traffic.static_origin_gb:,.1f} GB to the CDN are free"
        )

    return kept + read, how


def egress(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """Bytes that leave Google's network; the document has no line for them."""
    gib = month.traffic.egress_gb / _GIB
    return book.usd("egress", gib), lambda: f"{gib:,.1f} GiB from Cloud Run to the CDN and the box"


def fixed_ip(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """Of the box at home (§F1)."""
    return book.usd("fixed-ip", 1), lambda: "one address, a month"


def cloud_sql(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """The standby runs all month: stopped, it would not replicate (§E3)."""
    one = month.scenario
    disk = plain(np.maximum(one.users_gb * one.database_share, SQL_LEAST_GB))
    runs, holds = book.usd("cloud-sql-micro", 1), book.usd("cloud-sql-storage", disk)

    def how() -> str:
        kept = f"{disk:,.1f} GB of disk {dollars(holds)}"
        return f"db-f1-micro all month (it must replicate) {dollars(runs)} + {kept}"

    return runs + holds, how


def domain(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """A twelfth of a year's (§F1)."""
    year = book.usd("domain", 1)
    return year / _MONTHS, lambda: f"{dollars(year)} a year / {_MONTHS}"


def glacier(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """§A1's daily snapshots, which §F1 forgets."""
    one = month.scenario
    kept = one.stored_gb * one.snapshot_copies
    return book.usd(
        "glacier-storage", kept
    ), lambda: f"{one.stored_gb:,.1f} GB x {one.snapshot_copies:g} copies = {kept:,.1f} GB"


def fallback(month: Month, book: PriceBook, choices: Choices) -> Draft:
    """Answers the box cannot make, by the token (§H2)."""
    one, box = month.scenario, month.box
    answers = decimal(box.fallback_answers)
    prompts, output = answers * decimal(one.prompt_tokens), answers * decimal(one.answer_tokens)
    usd = book.fallback_usd(choices.fallback, prompts, output)

    def how() -> str:
        outage = box.fallback_answers - box.overflow_answers
        return (
            f"{outage:,.0f} answers in {one.outage_hours:g} h of outage + {box.overflow_answers:,.0f} too "
            f"many for the cards, x ({one.prompt_tokens:g} + {one.answer_tokens:g} tokens) of "
            f"{choices.fallback}"
        )

    return usd, how
