"""Does the search for capacity find the computed rate? On an emulated engine, whose speed is known.

The engine's step takes `a + b x (others decoding)`, a request decodes `tokens - 1` steps, and the SLO is kept
by half of the requests (attainment 0.5) as long as an average step takes no more than the target TPOT. With
arrivals at a rate r, Little's law gives the others: r x (tokens - 1) x TPOT, so

    TPOT = a / (1 - prefill share - b x r x (tokens - 1)), solved for r at the target.

The mean of a batch's size follows from the rate exactly (an M/G/1 queue with processor sharing is insensitive
to how long answers are); the median request, which the search judges by, lies a little below it.
Everything found is simulated. Run it from the repository root: `python -m benchmarks.capacity_search`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gateway_overhead import device, rounded
from dreamseed_cli.bench.suites.cells import ANSWER_TOKENS

RESULT = Path(__file__).parent / "results" / "capacity_search.json"
STEP_MS, STEP_MS_PER_SEQ = 10.0, 0.25
PREFILL_TOKENS_PER_S = 1_000_000.0
TARGET_TPOT_MS = 20.0
AIM_PERCENT = 5.0
CYCLE_S = 60.0
"""A user of the capacity suite asks once in this time."""
PROFILE = f"""
name = "capacity-search"
description = "An engine whose capacity can be computed"
[engine]
kind = "emulated"
served_name = "emulated"
max_model_len = 4096
max_num_seqs = 128
[engine.card]
source = "chosen for this benchmark"
prefill_tokens_per_s = {PREFILL_TOKENS_PER_S}
decode_step_ms = {STEP_MS}
decode_step_ms_per_seq = {STEP_MS_PER_SEQ}
kv_cache_tokens = 200000
[targets]
ttft_ms = 5000.0
tpot_ms = {TARGET_TPOT_MS}
attainment = 0.5
[services.postgres]
mode = "off"
[services.redis]
mode = "off"
[services.kafka]
mode = "off"
"""

Figures = dict[str, Any]


def analytic_rate(prompt_tokens: float, tokens: int = ANSWER_TOKENS) -> float:
    """Requests per second at which the average step takes the target TPOT."""
    per_request_s = prompt_tokens / PREFILL_TOKENS_PER_S + STEP_MS_PER_SEQ / 1000 * (tokens - 1)
    return (1 - STEP_MS / TARGET_TPOT_MS) / per_request_s


def bench(folder: Path, seconds: float, seed: int) -> Figures:
    """What `dreamseed bench --suite capacity` reports, as its JSON. CalledProcessError if it fails."""
    profile = folder / "profile.toml"
    profile.write_text(PROFILE)
    argv = [sys.executable, "-m", "dreamseed_cli", "bench", "--profile", str(profile), "--suite", "capacity"]
    argv += ["--duration", str(seconds), "--seed", str(seed), "--json", "--state-dir", str(folder / "state")]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, argv)
    data: Figures = json.loads(done.stdout)["data"]
    return data


def compare(data: Figures) -> Figures:
    """The rate and the users found, beside the computed ones."""
    suite = data["suites"][0]
    trials = [one for one in suite["cells"] if one["valid"]]
    prompts = [one["prompt_tokens_mean"] for one in trials if one["prompt_tokens_mean"]]
    rate = analytic_rate(sum(prompts) / len(prompts))
    rates = [one for one in suite["cells"] if one["asked_rate_per_s"]]
    users = [one for one in suite["cells"] if "think_s" in one["shape"]]
    return {
        "headline": suite["headline"],
        "valid": data["valid"],
        "provenance": data["provenance"],
        "rate": _pair(_confirmed(rates, lambda one: one["asked_rate_per_s"]), rate),
        "users": _pair(_confirmed(users, lambda one: one["shape"]["count"]), rate * CYCLE_S),
        "trials": [
            {
                "name": one["name"],
                "valid": one["valid"],
                "asked_rate_per_s": one["asked_rate_per_s"],
                "slo_attainment": one["slo_attainment"]["value"],
                "tpot_mean_ms": one["tpot"]["mean"]["value"] if one["tpot"] else None,
            }
            for one in suite["cells"]
        ],
    }


def _confirmed(trials: list[Figures], load: Callable[[Figures], float]) -> float | None:
    """What the search ended with: a load that was kept a second time. None if it ended without."""
    if not trials:
        return None
    last = trials[-1]
    kept = last["valid"] and last["slo_attainment"]["value"] >= 0.5
    again = [load(one) for one in trials].count(load(last)) > 1
    return load(last) if kept and again else None


def _pair(found: float | None, computed: float) -> Figures:
    off = None if found is None else (found / computed - 1) * 100
    return {
        "found_simulated": found,
        "computed": computed,
        "off_percent": off,
        "reached": off is not None and abs(off) <= AIM_PERCENT,
    }


def main() -> None:
    """Run it, print both, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load in each trial")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    report = {"device": device(), "seconds": options.seconds, "seed": options.seed}
    with tempfile.TemporaryDirectory(prefix="ds-capacity-") as folder:
        report |= compare(bench(Path(folder), options.seconds, options.seed))
    for name in ("rate", "users"):
        pair = report[name]
        print(f"{name}: found {pair['found_simulated']} (simulated), computed {pair['computed']:.3f}")
    options.output.write_text(json.dumps(rounded(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
