"""Faults of a real vLLM on the CPU: its engine core killed, its engine core stopped, its supervisor killed.

`dreamseed serve` with the laptop profile, as a newcomer has it, only on a free port. One replica: there is
nowhere else to go, so requests wait for its restart. Figures are measured, of a 135M model on a processor;
the start of a large model on a card takes longer.
Run it from the repository root: `python -m benchmarks.vllm_faults`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from benchmarks._fire import Stack
from benchmarks._vllm_fire import DEADLINE_S, TOKENS, core_fault, supervisor_fault
from benchmarks.gateway_overhead import device
from dreamseed_cli.core.paths import StateDir

RESULT = Path(__file__).parent / "results" / "vllm_faults.json"
PROFILE = Path(__file__).parent.parent / "profiles" / "laptop.toml"


async def measure() -> dict[str, Any]:
    """All three, on one stack."""
    with tempfile.TemporaryDirectory(prefix="ds-vllm-") as name:
        folder = Path(name)
        profile, state = folder / "laptop.toml", StateDir(folder / "s")
        profile.write_text(PROFILE.read_text().replace("port = 50051", "port = 0"))
        argv = ("-m", "dreamseed_cli", "serve", "--profile", str(profile), "--state-dir", str(state.root))
        stand = Stack(folder, state, (sys.executable, *argv), {})
        stand.start()
        try:
            return {
                "engine_core_sigkill": (await core_fault(stand, signal.SIGKILL)).data(),
                "engine_core_sigstop": (await core_fault(stand, signal.SIGSTOP)).data(),
                "supervisor_sigkill": (await supervisor_fault(stand)).data(),
            }
        finally:
            stand.remember()
            stand.end()


def main() -> None:
    """Run it, print it, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    found = {
        "benchmark": "vllm_faults",
        "device": device(),
        "provenance": "measured, on the CPU",
        "profile": "laptop",
        "caller_deadline_s": DEADLINE_S,
        "streamed_answer_tokens": TOKENS,
        "faults": uvloop.run(measure()),
    }
    text = json.dumps(found, indent=1)
    print(text)
    options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
