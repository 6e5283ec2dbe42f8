"""§F3's rows as scenarios: what the document assumes, and nothing that it does not say."""

from __future__ import annotations

from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.estimates.schema import Book as Figures

ROWS = ("f3-1k", "f3-10k", "f3-100k", "f3-500k", "f3-1m")
"""§F3's rows, by the id of the estimate."""


def document_scenario(figures: Figures, row_id: str) -> Scenario:
    """A row of §F3: every hour is the busiest, no cache answers, the box is at full load, no byte costs.

    The draw of a card is its share of §B2's full load, the rest of the box included. NotComputable if a
    figure is missing.
    """
    row, run = figures.get(row_id), figures.get("c1-instances")
    concurrent, rps = row.field("concurrent_users"), row.field("api_rps")
    card_w = figures.number("b2-full-load-w") / figures.number("b1-cards")
    return Scenario(
        users=round(row.field("users")),
        concurrent=round(concurrent),
        requests_per_user_min=rps * 60 / concurrent,
        hours=figures.number("b2-hours"),
        peak_to_average=1,
        ai_share=figures.number("b1-ai-share-percent") / 100,
        cdn_hit=figures.number("a2-cdn-hit-percent") / 100,
        cached_question_share=0,
        answer_cache_hit=0,
        api_kb=0,
        answer_tokens=figures.number("b1-answer-tokens"),
        instance_vcpus=figures.number("c1-vcpus"),
        instance_gib=figures.number("c1-memory-gb"),
        container_concurrency=round(run.field("container_concurrency")),
        min_instances=round(run.field("min_scale")),
        max_instances=round(run.middle),
        scaling_target=run.field("autoscaling_target") / 100,
        plain_request_s=figures.number("c1-request-ms") / 1000,
        gpus=round(row.field("cards")),
        card_loaded_w=card_w,
        card_idle_w=card_w,
        rest_loaded_w=0,
        rest_idle_w=0,
        psu_efficiency=1,
        card_tok_s=figures.number("b1-card-tok-s"),
        card_sequences=figures.number("i2-batch-size"),
        stored_gb_base=figures.number("c3-stored-tb") * 1000,
        stored_gb_per_1000_users=0,
        backup_copies=1,
        snapshot_copies=0,
        outage_hours=0,
    )
