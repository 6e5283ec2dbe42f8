"""The real vLLM behind the real gateway, through the program an operator uses."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack


def test_a_real_question_gets_a_sensible_answer(vllm_stack: Stack) -> None:
    """Greedy, so that the answer is the same on every run; measured, not simulated."""
    answer = vllm_stack.json("ask", "What is the capital of Korea?", "--temperature", "0")
    assert "Seoul" in answer["text"]
    assert answer["replica"] == "r0"
    assert answer["finish_reason"] == "stop"
    assert answer["tokens"] > 1
    assert answer["ttft"]["provenance"] == "measured"


def test_a_streamed_answer_is_the_same_text(vllm_stack: Stack) -> None:
    """The pieces on stdout are the answer; what is told about it goes to stderr."""
    question = ("What is the capital of Korea?", "--temperature", "0")
    streamed = vllm_stack.run("ask", *question)
    assert streamed.returncode == 0, streamed.stderr
    whole = vllm_stack.json("ask", *question, "--no-stream")
    assert streamed.stdout.strip() == whole["text"].strip()
    assert "tok/s" in streamed.stderr


def test_concurrent_questions_are_all_answered(vllm_stack: Stack) -> None:
    """Eight at once, each with its own answer and exactly the tokens that were counted."""
    questions = [f"What is {n} plus {n}?" for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda q: vllm_stack.json("ask", q, "--max-tokens", "12"), questions))
    assert all(0 < answer["tokens"] <= 12 for answer in answers)


def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(vllm_stack: Stack) -> None:
    """vLLM counts the tokens; the gateway passes its numbers on as INVALID_ARGUMENT."""
    done = vllm_stack.run("ask", "word " * 5000, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 2
    assert "2048" in document["errors"][0]["cause"]


def test_status_shows_the_replica_at_work(vllm_stack: Stack) -> None:
    """State, reason, memory of the KV cache, and that the figures are measured."""
    status = vllm_stack.json("status")
    assert status["provenance"] == "measured"
    replica = status["replicas"][0]
    assert (replica["name"], replica["state"]) == ("r0", "ready")
    assert 0 <= replica["kv_usage"] <= 1


def test_the_engine_log_can_be_read(vllm_stack: Stack) -> None:
    """vLLM's own lines, through `dreamseed logs`; no prompt among them."""
    done = vllm_stack.run("logs", "r0", "--lines", "2000")
    assert "KV cache size" in done.stdout
    assert "capital of Korea" not in done.stdout


def test_the_plan_computes_what_vllm_finds(vllm_stack: Stack) -> None:
    """Weights and KV cache of `dreamseed plan`, against what vLLM prints at its start: within 5 %."""
    printed = vllm_stack.run("logs", "r0", "--lines", "10000").stdout
    tokens = re.search(r"KV cache size: ([\d,]+) tokens", printed)
    weights_gib = re.search(r"Checkpoint size: ([\d.]+) GiB", printed)
    assert tokens is not None, printed[-3000:]
    assert weights_gib is not None, printed[-3000:]
    memory = vllm_stack.json("plan", "--profile", "laptop")["memory"]
    assert memory["cpu_kv_cache_tokens"] == pytest.approx(int(tokens[1].replace(",", "")), rel=0.05)
    assert memory["weights_bytes"] == pytest.approx(float(weights_gib[1]) * 2**30, rel=0.05)
