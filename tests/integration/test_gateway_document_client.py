"""A client compiled from the document's own text (§D1) talks to the gateway unchanged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_harness import emulated_engine, gateway_process, settings, socket_folder, target
from grpc_tools import protoc

_DOCUMENT = Path(__file__).resolve().parents[1] / "fixtures"

# In a process of its own: one process cannot know two contracts by the same names.
_CLIENT = """
import sys
import grpc
import document_llm_pb2 as llm
import document_llm_pb2_grpc as llm_grpc

with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = llm_grpc.LLMServiceStub(channel)
    request = llm.GenerateRequest(
        prompt="Why is the sky blue?", user_id="u1", max_tokens=20, temperature=0.7, priority=llm.PREMIUM
    )
    whole = stub.Generate(request, timeout=30)
    assert whole.text and whole.tokens_generated == 20 and whole.latency_ms > 0, whole
    messages = list(stub.GenerateStream(request, timeout=30))
    assert len(messages) > 1 and messages[-1].tokens_generated == 20, messages
    assert "".join(message.text for message in messages)
    try:
        stub.Generate(llm.GenerateRequest(prompt="", max_tokens=5), timeout=30)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    else:
        raise AssertionError("an empty prompt was answered")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where this module's sockets are."""
    with socket_folder() as path:
        yield path


def test_the_documents_client_works_unchanged(folder: Path, tmp_path: Path) -> None:
    """Code generated from §D1's text calls both methods and gets answers and statuses."""
    arguments = [f"-I{_DOCUMENT}", f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    assert protoc.main(["protoc", *arguments, "document_llm.proto"]) == 0
    with (
        emulated_engine(folder, "e0") as engine,
        gateway_process(folder, settings(folder, target("r0", engine.socket))) as gateway,
    ):
        subprocess.run([sys.executable, "-c", _CLIENT, gateway.address], cwd=tmp_path, check=True, timeout=60)
