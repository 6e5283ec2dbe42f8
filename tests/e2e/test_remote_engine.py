"""An engine that runs elsewhere, given by its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack


def test_a_remote_engine_serves_and_its_figures_never_pass_for_measured(remote_stack: Stack) -> None:
    """The profile says nothing of emulation; the engine does, and everything shown says `simulated`."""
    answer = remote_stack.json("ask", "Hello?", "--max-tokens", "5")
    assert answer["tokens"] == 5
    assert answer["latency"]["provenance"] == "simulated"
    whole = remote_stack.json("ask", "Hello?", "--max-tokens", "5", "--no-stream")
    assert whole["latency"]["provenance"] == "simulated"
    status = remote_stack.json("status")
    assert status["provenance"] == "simulated"
    assert status["replicas"][0]["pid"] is None
    assert "SIMULATED" in remote_stack.run("status").stdout
