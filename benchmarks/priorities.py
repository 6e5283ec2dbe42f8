"""What the queue keeps: PREMIUM's TTFT under overload, the lower classes' shares, and the cards' goodput.

Three emulated cards of a profile, arrivals in open loop (Poisson, the same PREMIUM ones in every phase).
Phases: the engines past the gateway at their own saturation; PREMIUM one at a time; PREMIUM alone; STANDARD
and BATCH alone at twice what the cards can do (goodput); all three at three times, PREMIUM a modest part;
endless PREMIUM over the two others (shares). Twice: in virtual time with the real scheduler, minutes for each
phase and exact; then for real, processes and sockets, shorter, which also measures rejections. The cards are
simulated in both.
Run it from the repository root: `python -m benchmarks.priorities`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks._real import (
    MODEL,
    NAMES,
    PATIENCE_S,
    PROFILE,
    Found,
    Setting,
    direct,
    one_at_a_time,
    open_loop,
    standing,
)
from benchmarks._virtual import Seen, VirtualStand, saturated
from benchmarks.gateway_overhead import device, rounded
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.proto.llm_pb2 import (
    PREMIUM,
)
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import EmulatedEngine

RESULT = Path(__file__).parent / "results" / "priorities.json"
AIMS = {"premium_ttft_p99_ratio": 1.2, "goodput_ratio": 0.97, "reject_latency_p99_ms": 5.0}
VIRTUAL_RAMP_S, VIRTUAL_WINDOW_S = 60.0, 540.0


async def measure(setting: Setting) -> dict[str, Any]:
    """The phases for real."""
    async with standing(setting) as stand:
        alone = await direct(stand)
        found = {"premium_one_at_a_time": await one_at_a_time(stand, 20)}
        for name, rates in setting.phases(alone["requests_per_s"]).items():
            stand.premium_prompt_tokens = setting.premium_prompt(name)
            ramp_s = 3.0 if name == "premium_alone" else setting.ramp_s
            found[name] = await open_loop(stand, rates, ramp_s)
    figures = result(
        setting,
        {name: [ttft / 1000 for ttft in phase.ttft_ms[PREMIUM]] for name, phase in found.items()},
        {name: phase.work_tokens for name, phase in found.items()},
        found["standard_and_batch"].generated_per_s / alone["tokens_per_s"],
    )
    slowest = quantiles(found["overload"].reject_ms).get("p99", math.nan)
    figures["result"]["reject_latency_p99_ms"] = slowest
    figures["reached"]["reject_latency_p99_ms"] = slowest <= AIMS["reject_latency_p99_ms"]
    phases = {name: summary(phase) for name, phase in found.items()}
    return {"engines_past_the_gateway": alone, "phases": phases} | figures


def imagine(setting: Setting) -> dict[str, Any]:
    """The phases in virtual time."""
    until = VIRTUAL_RAMP_S + VIRTUAL_WINDOW_S
    tokens_per_s, capacity = saturated(
        setting.engine, setting.prompt_tokens, setting.answer_tokens, VIRTUAL_RAMP_S, until
    )
    found = {}
    for name, rates in setting.phases(capacity).items():
        stand = VirtualStand(
            setting.engine,
            setting.rules,
            prompts={
                PriorityClass.PREMIUM: setting.premium_prompt(name),
                PriorityClass.STANDARD: setting.prompt_tokens,
                PriorityClass.BATCH: setting.prompt_tokens,
            },
            answer=setting.answer_tokens,
            patience_s={PriorityClass(cls): patience for cls, patience in PATIENCE_S.items()},
            since=VIRTUAL_RAMP_S,
        )
        for cls, rate in rates.items():
            stand.load(PriorityClass(cls), rate, until)
        found[name] = stand.run(until)
    return {
        "engines_past_the_gateway": {"tokens_per_s": tokens_per_s, "requests_per_s": capacity},
        "phases": {name: imagined(seen, tokens_per_s) for name, seen in found.items()},
    } | result(
        setting,
        {name: seen.ttft_s[PriorityClass.PREMIUM] for name, seen in found.items()},
        {name: {cls.label: work for cls, work in seen.work.items()} for name, seen in found.items()},
        found["standard_and_batch"].delivered / VIRTUAL_WINDOW_S / tokens_per_s,
    )


def result(
    setting: Setting, ttft_s: dict[str, list[float]], work: dict[str, dict[str, int]], goodput: float
) -> dict[str, Any]:
    """The figures that the aims are about, and which were reached."""
    loaded, unloaded = (
        quantiles(ttft_s[name]).get("p99", math.nan) for name in ("overload", "premium_alone")
    )
    ratio = loaded / unloaded
    shares = {name: work_shares(work[name]) for name in ("overload", "endless_premium")}
    return {
        "result": {"premium_ttft_p99_ratio": ratio, "goodput_ratio": goodput, "work_shares": shares},
        "reached": {
            "premium_ttft_p99_ratio": ratio <= AIMS["premium_ttft_p99_ratio"],
            "goodput_ratio": goodput >= AIMS["goodput_ratio"],
            "batch_share": all(
                share["batch"] >= 0.98 * setting.rules.share_batch for share in shares.values()
            ),
        },
    }


def described(setting: Setting) -> dict[str, Any]:
    """The setting as it stands in the result file."""
    return {
        "profile": PROFILE,
        "card": setting.engine.card.model_dump(),
        "max_num_seqs": setting.engine.max_num_seqs,
        "admission": setting.rules.model_dump(),
        "prompt_tokens": {"premium": setting.premium_prompt_tokens, "others": setting.prompt_tokens},
        "longest_answer_tokens": setting.answer_tokens,
        "patience_s": {NAMES[cls]: patience for cls, patience in PATIENCE_S.items()},
        "window_s": {"virtual": VIRTUAL_WINDOW_S, "real": setting.window_s},
        "offered_of_capacity": {
            name: {NAMES[cls]: rate for cls, rate in rates.items()}
            for name, rates in setting.phases(1.0).items()
        },
    }


def imagined(seen: Seen, tokens_per_s: float) -> dict[str, Any]:
    """One virtual phase in figures."""
    return {
        "premium_ttft_ms": quantiles([ttft * 1000 for ttft in seen.ttft_s[PriorityClass.PREMIUM]]),
        "answers": {cls.label: count for cls, count in seen.answers.items()},
        "generated_of_capacity": seen.generated / VIRTUAL_WINDOW_S / tokens_per_s,
        "cut_in_the_engine": {cls.label: count for cls, count in seen.cut.items()},
        "refused": dict(seen.refused),
        "retry_after_s": quantiles(seen.retry_after_s),
    }


def summary(found: Found) -> dict[str, Any]:
    """One phase in figures."""
    return {
        "premium_ttft_ms": quantiles(found.ttft_ms[PREMIUM]),
        "answers": dict(found.answers),
        "work_tokens": dict(found.work_tokens),
        "generated_tokens_per_s": found.generated_per_s,
        "refused": dict(found.refused),
        "reject_latency_ms": quantiles(found.reject_ms),
        "retry_after_s": quantiles(found.retry_after_s),
        "own_timers_late_ms": quantiles(found.lag_ms),
    }


def work_shares(work: dict[str, int]) -> dict[str, float]:
    """Each class's part of prompt and answer tokens of all complete answers."""
    total = max(1, sum(work.values()))
    return {name: work.get(name, 0) / total for name in NAMES.values()}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Count, p50, p90, p99 and the largest; empty for none."""
    if not values:
        return {}
    ordered = sorted(values)
    picked = {
        f"p{share}": ordered[min(len(ordered) - 1, math.ceil(share / 100 * len(ordered)) - 1)]
        for share in (50, 90, 99)
    }
    return {"count": len(ordered), "mean": statistics.fmean(ordered), **picked, "max": ordered[-1]}


def main() -> None:
    """Run it, print the summary, write the result."""
    shipped = load_profile(PROFILE)
    engine = cast("EmulatedEngine", shipped.engine)
    rules = shipped.gateway.admission
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=float, default=30.0, help="seconds measured in each phase")
    parser.add_argument("--ramp", type=float, default=25.0, help="seconds before each window under load")
    parser.add_argument("--max-num-seqs", type=int, default=engine.max_num_seqs)
    parser.add_argument("--reserved", type=int, default=rules.reserved_for_premium)
    parser.add_argument("--prefill-ahead", type=int, default=rules.prefill_ahead_tokens)
    parser.add_argument("--prompt", type=int, default=100, help="prompt tokens of STANDARD and BATCH")
    parser.add_argument("--premium-prompt", type=int, default=1500, help="prompt tokens of PREMIUM")
    parser.add_argument("--premium-load", type=float, default=0.04, help="PREMIUM requests, of capacity")
    parser.add_argument("--virtual", action="store_true", help="in virtual time only")
    parser.add_argument("--answer", type=int, default=100, help="longest answer in tokens")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    setting = Setting(
        engine=engine.model_copy(update={"served_name": MODEL, "max_num_seqs": options.max_num_seqs}),
        rules=rules.model_copy(
            update={
                "reserved_for_premium": options.reserved,
                "prefill_ahead_tokens": options.prefill_ahead,
            }
        ),
        prompt_tokens=options.prompt,
        premium_prompt_tokens=options.premium_prompt,
        answer_tokens=options.answer,
        premium_load=options.premium_load,
        ramp_s=options.ramp,
        window_s=options.window,
    )
    found: dict[str, Any] = {
        "benchmark": "priorities",
        "device": device(),
        "provenance": "simulated: the cards, all of `virtual`; measured: queueing, rejections of `real`",
        "setting": described(setting),
        "aims": AIMS,
        "virtual": imagine(setting),
    }
    if not options.virtual:
        found["real"] = uvloop.run(measure(setting))
    options.output.write_text(json.dumps(rounded(found), indent=1) + "\n")
    print(json.dumps(rounded({key: found[key] for key in ("virtual", "real") if key in found}), indent=1))


if __name__ == "__main__":
    main()
