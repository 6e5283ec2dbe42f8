"""The real vLLM behind the real gateway, through the program an operator uses."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from gateway_harness import until

from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.metrics import EngineMetrics
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.gateway.proto import GENERATE_STREAM
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse

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


def test_who_leaves_frees_vllms_place(vllm_stack: Stack) -> None:
    """Cancelled after the first words: vLLM stops generating, though 1,000 tokens were asked for."""
    before = _metrics(vllm_stack).generation_tokens_total
    snapshot = vllm_stack.snapshot()
    assert snapshot is not None
    asyncio.run(_leave_early(vllm_stack, str(snapshot.gateway.address)))
    assert _metrics(vllm_stack).running == 0
    assert _metrics(vllm_stack).generation_tokens_total - before < 800


async def _leave_early(stack: Stack, address: str) -> None:
    """Until vLLM works for nobody, or 20 s: the whole answer would take it most of a minute."""
    request = GenerateRequest(prompt="Count to a thousand.", max_tokens=1000, ignore_eos=True)
    async with grpc.aio.insecure_channel(address) as channel:
        stream = channel.unary_stream(
            GENERATE_STREAM, GenerateRequest.SerializeToString, GenerateResponse.FromString
        )
        call = stream(request, timeout=120)
        await call.read()
        assert (await asyncio.to_thread(_metrics, stack)).running == 1
        call.cancel()
        await until(lambda: asyncio.to_thread(lambda: _metrics(stack).running == 0), 20.0)


def _metrics(stack: Stack) -> EngineMetrics:
    """What vLLM itself says of its work."""
    snapshot = stack.snapshot()
    assert snapshot is not None

    async def look() -> EngineMetrics | None:
        endpoint = Endpoint.parse(snapshot.replicas[0].endpoint)
        client = EngineClient(endpoint, model="", api="chat", usage_per_chunk=True)
        try:
            return await client.metrics()
        finally:
            await client.close()

    found = asyncio.run(look())
    assert found is not None
    return found


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
