"""The arithmetic rules by the name a file uses (`arithmetic:NAME`), and how one is applied."""

from __future__ import annotations

from dreamseed_cli.estimates import cost_rules, serving_rules, upkeep_rules
from dreamseed_cli.estimates.outcome import Outcome, Rule
from dreamseed_cli.estimates.schema import Book, Estimate, NotComputable

RULES: dict[str, Rule] = {
    "agrees": cost_rules.agrees_with,
    "cloud-run-vcpu": cost_rules.cloud_run_vcpu,
    "cloud-run-memory": cost_rules.cloud_run_memory,
    "cloud-run-total": cost_rules.cloud_run_total,
    "storage-cost": cost_rules.storage_cost,
    "download-cost": cost_rules.download_cost,
    "storage-total": cost_rules.storage_total,
    "domain": cost_rules.domain,
    "monthly-total": cost_rules.monthly_total,
    "monthly-average": cost_rules.monthly_average,
    "cards-price": cost_rules.cards_price,
    "initial-total": cost_rules.initial_total,
    "monthly-saving": cost_rules.monthly_saving,
    "payback": cost_rules.payback,
    "two-years": cost_rules.two_years,
    "row-total": cost_rules.row_total,
    "goal-cost": cost_rules.goal_cost,
    "runway-hybrid": cost_rules.runway_hybrid,
    "runway-cloud": cost_rules.runway_cloud,
    "runway-difference": cost_rules.runway_difference,
    "card-memory": serving_rules.card_memory,
    "card-fp16": serving_rules.card_fp16,
    "single-stream-bound": serving_rules.single_stream_bound,
    "throughput-bound": serving_rules.throughput_bound,
    "tensor-parallel": serving_rules.tensor_parallel,
    "one-sequence": serving_rules.one_sequence,
    "farm-throughput": serving_rules.farm_throughput,
    "farm-answers": serving_rules.farm_answers,
    "answers-per-minute": serving_rules.answers_per_minute,
    "ai-share": serving_rules.ai_share,
    "little": serving_rules.little,
    "row-cards": serving_rules.row_cards,
    "batch-speedup": serving_rules.batch_speedup,
    "full-load": upkeep_rules.full_load,
    "covers-load": upkeep_rules.covers_load,
    "covers-wall": upkeep_rules.covers_wall,
    "electricity": upkeep_rules.electricity,
    "ups-minutes": upkeep_rules.ups_minutes,
    "nightly-backup": upkeep_rules.nightly_backup,
}


def apply_rule(name: str, book: Book, estimate: Estimate) -> Outcome:
    """What a rule finds; NotComputable if a figure it needs is missing, or divides by zero."""
    try:
        return RULES[name](book, estimate)
    except ArithmeticError as error:
        raise NotComputable(f"rule '{name}' divides by a figure that is zero") from error
