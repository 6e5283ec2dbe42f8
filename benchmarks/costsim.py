"""The cost simulation's speed and truth: requests a second of wall time, and how far off its figures are.

`speed` is an hour of 10,000 users at once on the whole path. `queue` is one M/M/c queue, here (with the
gateway's scheduler in it) and in simpy, each beside Erlang C. `engine` compares the simulation with emulated
engines that are driven step by step, on loads that nothing was fitted to: with the engine's own card, and
with one that was fitted to closed-loop cells as `dreamseed bench` would measure them. `fleet` is one pool of
three equal cards in vllm-sr-sim and here, beside the stepped engines. `sweep` times all of §F3 with its
draws and simulations. The peers run in virtual environments of their own, one after the other; the cards are
simulated.
Run it from the repository root: `python -m benchmarks.costsim`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks._closed_form import mmc_wait_s
from benchmarks._peers import Package, environment
from benchmarks._stepped import PROMPT, Found, Stepped, closed_cell, jumped, requests, system_of_card
from benchmarks.gateway_overhead import device, rounded
from benchmarks.peers import ENVIRONMENTS
from dreamseed_cli.costsim.queueing.arrivals import Asked
from dreamseed_cli.costsim.queueing.bench_load import NO_QUEUE
from dreamseed_cli.costsim.queueing.card import CardModel, card_of_profile
from dreamseed_cli.costsim.queueing.card_fit import card_of_bench
from dreamseed_cli.costsim.queueing.path import Path as Way
from dreamseed_cli.costsim.queueing.simulate import load_of, simulate, system_of
from dreamseed_cli.costsim.queueing.validate import validate_against_bench
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.plan.tables import shipped
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Admission, EmulatedCard, EmulatedEngine

RESULT = Path(__file__).parent / "results" / "costsim.json"
PROFILE = "emulated-rtx5090x3"
SIMPY = Package("simpy", "4.1.2")
FLEET_SIM = Package("vllm-sr-sim", "0.1.0.dev20260713123629")
AIMS = {"engine_error_percent": 9.0, "hour_of_10000_users_s": 5.0, "sweep_s": 10.0}
SERVERS, USAGE, QUEUED = 16, 0.8, 300_000
BATCHES, T_99 = 20, 2.861
"""Of requests, for the interval of a mean: Student's t of 19 degrees of freedom at 99 %."""
STEP_S = 0.0005
RATES = {"light": 3.0, "middle": 8.0, "full": 12.0}
"""Requests a second at three cards, which can make about 14."""
WINDOW = (60.0, 360.0)
STREAMS = (1, 4, 16, 48, 96)

_SIMPY_QUEUE = """
import json, random, sys, time
import simpy

servers, usage, count = json.load(sys.stdin)
rng = random.Random(1)
waits = []

def customer(env, place):
    came = env.now
    with place.request() as granted:
        yield granted
        waits.append(env.now - came)
        yield env.timeout(rng.expovariate(1.0))

def source(env, place):
    for _ in range(count):
        yield env.timeout(rng.expovariate(usage * servers))
        env.process(customer(env, place))

env = simpy.Environment()
env.process(source(env, simpy.Resource(env, servers)))
began = time.perf_counter()
env.run()
took = time.perf_counter() - began
print(json.dumps({"wall_s": took, "waits_s": waits[count // 10:]}))
"""
_FLEET = """
import json, sys, time
from fleet_sim.core.fleet import Fleet, FleetConfig, PoolConfig
from fleet_sim.core.request import Request
from fleet_sim.gpu_profiles.manual import ManualProfile

asked = json.load(sys.stdin)
card = asked["card"]
# H is per sequence of `calibration_ctx` tokens and grows with the mean length: said so that at this load's
# mean length it is the card's own part for each sequence.
gpu = ManualProfile(
    name="emulated", W=card["base_s"], H=card["each_s"] * asked["longest"] / asked["mean_length"],
    chunk=asked["longest"], blk_size=16, total_kv_blks=card["kv_cache_tokens"] // 16,
    max_slots=card["max_num_seqs"], cost_per_hr=0.0, calibration_ctx=asked["longest"],
)
pool = PoolConfig("all", gpu, asked["replicas"], asked["longest"], lb_strategy="least_loaded")
arrivals = [
    (at, Request(number, at, prompt, answer))
    for number, (at, prompt, answer) in enumerate(asked["requests"])
]
fleet = Fleet(FleetConfig([pool], "LengthRouter", {"threshold": asked["longest"]}))
began = time.perf_counter()
result = fleet.run(arrivals)
took = time.perf_counter() - began
done = [one for one in result.completed if one.arrival_time >= asked["since"]]
ttft = sorted(one.ttft for one in done)
print(json.dumps({
    "wall_s": took,
    "completed": len(result.completed),
    "ttft_mean_ms": 1000 * sum(ttft) / len(ttft),
    "ttft_p95_ms": 1000 * ttft[int(0.95 * len(ttft))],
    "e2e_mean_ms": 1000 * sum(one.e2e_latency for one in done) / len(done),
}))
"""


def speed() -> dict[str, Any]:
    """A simulated hour of 10,000 users at once: 3 % of requests ask for AI (70 % hits), 4.5 %, no hits."""
    cards = card_of_profile(load_profile(PROFILE), shipped())
    cases = {
        "3 % AI, 70 % cache hits": Scenario(users=1_000_000, concurrent=10_000),
        "4.5 % AI, 70 % cache hits": Scenario(users=1_000_000, concurrent=10_000, ai_share=0.045),
        "4.5 % AI, no cache": Scenario(
            users=1_000_000, concurrent=10_000, ai_share=0.045, answer_cache_hit=0.0
        ),
    }
    return {name: _hour(scenario, cards) for name, scenario in cases.items()}


def _hour(scenario: Scenario, cards: CardModel) -> dict[str, Any]:
    load = load_of(scenario)
    began = perf_counter()
    outcome = simulate(load, system_of(scenario, cards), hours=1.0, seed=1)
    took = perf_counter() - began
    followed = load.asked_per_s * 3600
    return {
        "wall_s": took,
        "api_requests_per_wall_s": load.rps * 3600 / took,
        "followed_requests_per_wall_s": followed / took,
        "attainment": outcome.overall.attainment,
        "ttft_s": dict(outcome.overall.ttft.quantiles_s),
        "busy_share": outcome.cards.busy_share,
        "endings": {str(ending): count for ending, count in outcome.overall.endings.items()},
    }


def queue(environments: Path) -> dict[str, Any]:
    """M/M/16 at 80 % load: this simulation reduced to it, and simpy."""
    known = mmc_wait_s(SERVERS, USAGE * SERVERS, 1.0)
    ours, simpys = _our_queue(), _peer(environments, SIMPY, _SIMPY_QUEUE, [SERVERS, USAGE, QUEUED])
    for found in (ours, simpys):
        means = np.array([part.mean() for part in np.array_split(np.array(found.pop("waits_s")), BATCHES)])
        found["requests_per_wall_s"] = QUEUED / found["wall_s"]
        found["mean_wait_s"] = float(means.mean())
        found["error_percent"] = 100 * (means.mean() / known.mean_s - 1)
        found["interval_percent"] = 100 * T_99 * means.std(ddof=1) / math.sqrt(BATCHES) / known.mean_s
    return {
        "servers": SERVERS,
        "usage": USAGE,
        "requests": QUEUED,
        "erlang_c_mean_wait_s": known.mean_s,
        "dreamseed": ours,
        "simpy": simpys | {"version": SIMPY.version},
        "faster_than_simpy": simpys["wall_s"] / ours["wall_s"],
    }


def _our_queue() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    at_s = np.cumsum(rng.exponential(1 / (USAGE * SERVERS), QUEUED))
    steps = np.maximum(np.rint(rng.exponential(1.0, QUEUED) / STEP_S), 1).astype(np.int64)
    same = np.ones(QUEUED, dtype=np.int64)
    asked = Asked(at_s, same, same, steps, same, 10**6, {PriorityClass.STANDARD: math.inf})
    card = EmulatedCard(
        source="steps of one length",
        prefill_tokens_per_s=1e9,
        decode_step_ms=STEP_S * 1000,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=10**9,
    )
    way = Way(asked, [], system_of_card(CardModel(card, SERVERS), 1, NO_QUEUE))
    began = perf_counter()
    trail, _, _ = way.walk(0.0, math.inf)
    took = perf_counter() - began
    return {"wall_s": took, "waits_s": (trail.first_at - at_s - STEP_S)[QUEUED // 10 :]}


def engine() -> dict[str, Any]:
    """Held-out loads: the stepped engines, the jumps with their card, the jumps with a fitted card."""
    emulated, rules = _emulated()
    stated = CardModel(emulated.card, emulated.max_num_seqs)
    cells = [closed_cell(emulated.card, streams, 400) for streams in STREAMS]
    document = {"provenance": "simulated", "device": "the emulated engine", "suites": [{"cells": cells}]}
    fitted = card_of_bench(
        document, max_num_seqs=emulated.max_num_seqs, kv_cache_tokens=emulated.card.kv_cache_tokens
    )
    loads = {}
    for name, rate in RATES.items():
        asked = requests(rate, WINDOW[1], seed=7)
        began = perf_counter()
        truth = Stepped(emulated, rules, asked, WINDOW[0]).found(WINDOW[1])
        middle = perf_counter()
        ours = jumped(stated, emulated.replicas, rules, asked, WINDOW)
        end = perf_counter()
        loads[name] = {
            "requests_per_s": rate,
            "stepped": vars(truth),
            "stated_card_error_percent": ours.errors(truth),
            "fitted_card_error_percent": jumped(fitted, emulated.replicas, rules, asked, WINDOW).errors(
                truth
            ),
            "times_faster_than_steps": (middle - began) / (end - middle),
        }
    held_out = validate_against_bench(document).held_out
    return {
        "loads": loads,
        "fitted_card": fitted.card.model_dump(),
        "bench_cells_held_out": [
            {"cell": load.cell.name, "quantity": one.quantity, "error_percent": 100 * one.error}
            for load, one in held_out
        ],
    }


def _emulated() -> tuple[EmulatedEngine, Admission]:
    profile = load_profile(PROFILE)
    if not isinstance(profile.engine, EmulatedEngine):
        raise TypeError(f"{PROFILE} is not emulated")
    return profile.engine, profile.gateway.admission


def fleet(environments: Path) -> dict[str, Any]:
    """Three equal cards, a step for a whole prompt (all that vllm-sr-sim's stated profile can say)."""
    emulated, _ = _emulated()
    card = emulated.card.model_copy(update={"prefill_tokens_per_s": 1e9, "decode_step_ms_per_kv_token": 0.0})
    asked = requests(RATES["middle"], WINDOW[1], seed=7)
    ours_began = perf_counter()
    ours = jumped(CardModel(card, emulated.max_num_seqs), emulated.replicas, NO_QUEUE, asked, WINDOW)
    ours_s = perf_counter() - ours_began
    truth = Stepped(emulated.model_copy(update={"card": card}), NO_QUEUE, asked, WINDOW[0]).found(WINDOW[1])
    found: dict[str, Any] = {
        "requests": len(asked),
        "stepped": vars(truth),
        "dreamseed": vars(ours) | {"wall_s": ours_s, "requests_per_wall_s": len(asked) / ours_s},
    }
    try:
        peer = _peer(environments, FLEET_SIM, _FLEET, _fleet_scenario(emulated, card, asked))
    except subprocess.CalledProcessError as failed:
        return found | {"vllm-sr-sim": {"version": FLEET_SIM.version, "failed": str(failed)}}
    peer |= {"requests_per_wall_s": len(asked) / peer["wall_s"], "version": FLEET_SIM.version}
    for name in ("ttft_mean_ms", "ttft_p95_ms", "e2e_mean_ms"):
        peer[f"{name}_error_percent"] = 100 * (peer[name] / getattr(truth, name) - 1)
    return found | {"vllm-sr-sim": peer, "dreamseed_error_percent": ours.errors(truth)}


def _fleet_scenario(emulated: EmulatedEngine, card: EmulatedCard, asked: Asked) -> dict[str, Any]:
    lengths = asked.answer_tokens
    return {
        "card": {
            "base_s": (card.decode_step_ms - card.decode_step_ms_per_seq) / 1000,
            "each_s": card.decode_step_ms_per_seq / 1000,
            "kv_cache_tokens": card.kv_cache_tokens,
            "max_num_seqs": emulated.max_num_seqs,
        },
        "replicas": emulated.replicas,
        "longest": PROMPT + asked.allowed_tokens,
        "mean_length": PROMPT + float(lengths.mean()),
        "since": WINDOW[0],
        "requests": [
            [at, PROMPT, answer] for at, answer in zip(asked.at_s.tolist(), lengths.tolist(), strict=True)
        ],
    }


def _peer(environments: Path, package: Package, program: str, given: Any) -> dict[str, Any]:
    """Run a program with the peer's own Python; CalledProcessError if it does not install or fails."""
    python = environment(environments, package) / "python"
    done = subprocess.run(
        [python, "-c", program], input=json.dumps(given), capture_output=True, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sweep() -> dict[str, Any]:
    """All of §F3 by the whole command: start, 10,000 draws and a simulated hour for each row."""
    argv = [
        sys.executable,
        "-m",
        "dreamseed_cli",
        "cost-sim",
        "--sweep",
        "users=1e3..1e6",
        "--draws",
        "10000",
    ]
    took_s, rows = [], 0
    for _ in range(3):
        began = perf_counter()
        done = subprocess.run([*argv, "--json"], stdout=subprocess.PIPE, check=True)
        took_s.append(perf_counter() - began)
        rows = len(json.loads(done.stdout)["data"]["sweep"])
    return {"command": " ".join(argv[2:]), "rows": rows, "wall_s": statistics.median(took_s), "all_s": took_s}


def reached(found: dict[str, Any]) -> dict[str, bool]:
    """Which aims were reached."""
    errors = [
        abs(error)
        for load in found["engine"]["loads"].values()
        for kind in ("stated_card_error_percent", "fitted_card_error_percent")
        for error in load[kind].values()
    ]
    errors += [abs(one["error_percent"]) for one in found["engine"]["bench_cells_held_out"]]
    slowest = max(case["wall_s"] for case in found["speed"].values())
    return {
        "engine_error_percent": max(errors) <= AIMS["engine_error_percent"],
        "hour_of_10000_users_s": slowest <= AIMS["hour_of_10000_users_s"],
        "sweep_s": found["sweep"]["wall_s"] <= AIMS["sweep_s"],
    }


def show(found: dict[str, Any]) -> None:
    """The errors as a table, the rest as JSON."""
    print(f"{'load':10}{'card':10}" + "".join(f"{name:>15}" for name in Found.__annotations__))
    for name, load in found["engine"]["loads"].items():
        for kind in ("stated", "fitted"):
            errors = load[f"{kind}_card_error_percent"].values()
            print(f"{name:10}{kind:10}" + "".join(f"{error:>14.2f}%" for error in errors))
    for one in found["engine"]["bench_cells_held_out"]:
        print(f"{one['cell']:12} held out: {one['quantity']:>14} {one['error_percent']:>8.2f}%")
    print(
        json.dumps({name: found[name] for name in ("speed", "queue", "fleet", "sweep", "reached")}, indent=1)
    )


def main() -> None:
    """Run it, print the summary, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where peers are installed")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": speed,
        "queue": lambda: queue(options.environments),
        "engine": engine,
        "fleet": lambda: fleet(options.environments),
        "sweep": sweep,
    }
    found: dict[str, Any] = {
        "benchmark": "costsim",
        "device": device(),
        "provenance": "measured: wall times; simulated: everything about cards; computed: Erlang C",
        "aims": AIMS,
    }
    for name, part in parts.items():
        found[name] = part()
    found["reached"] = reached(found)
    found = rounded(found)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
