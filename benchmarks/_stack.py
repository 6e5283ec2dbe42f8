"""`dreamseed serve`, but with one replica whose engine fails at its start, or with cards that a stand-in of
NVML tells of. Everything else is the product.

Run as `python -m benchmarks._stack --start-fault KIND --profile FILE --state-dir DIR`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dreamseed_cli.app import main as dreamseed
from dreamseed_cli.engine.types import Command
from dreamseed_cli.supervisor import session
from dreamseed_cli.supervisor.stack import ReplicaPlan, StackPlan, plan_stack

_SAY = "import sys; print(sys.argv[1], file=sys.stderr); sys.exit(1)"
_LAST_WORDS = {
    "wrong_model_path": "OSError: /models/nowhere does not appear to have a file named config.json.",
    "bad_option": "api_server.py: error: unrecognized arguments: --no-such-option",
}
_VICTIM = 0


def _start_fault(kind: str, folder: Path, replica: ReplicaPlan) -> ReplicaPlan:
    spec = replica.spec
    assert spec
    if kind == "out_of_memory":
        argv = (*spec.command.argv, "--fail-start", "oom")
    elif kind == "port_taken":
        argv = (sys.executable, "-m", "benchmarks._needs_port", str(folder / "port"), *spec.command.argv)
    else:
        argv = (sys.executable, "-c", _SAY, _LAST_WORDS[kind])
    return replace(replica, spec=replace(spec, command=Command(argv, spec.command.env)))


def _planned(
    change: Callable[[StackPlan], StackPlan], plan: Callable[..., StackPlan], *arguments: Any, **options: Any
) -> StackPlan:
    return change(plan(*arguments, **options))


def _changed(start_fault: str, with_cards: bool, folder: Path, plan: StackPlan) -> StackPlan:
    replicas = list(plan.replicas)
    if start_fault:
        replicas[_VICTIM] = _start_fault(start_fault, folder, replicas[_VICTIM])
    if with_cards:
        replicas = [replace(replica, cards=(number,)) for number, replica in enumerate(replicas)]
    return replace(plan, replicas=tuple(replicas))


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start-fault", default="")
    parser.add_argument("--cards", action="store_true")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    options = parser.parse_args()
    change = partial(_changed, options.start_fault, options.cards, options.state_dir.parent)
    setattr(session, "plan_stack", partial(_planned, change, plan_stack))  # noqa: B010
    dreamseed(["serve", "--profile", options.profile, "--state-dir", str(options.state_dir)])


if __name__ == "__main__":
    main()
