"""The wire contract and the Python made of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from dreamseed_cli.gateway.proto import llm_pb2

_ROOT = Path(__file__).resolve().parents[3]
_PACKAGE = Path("dreamseed_cli/gateway/proto")


def test_the_generated_code_is_what_the_proto_says(tmp_path: Path) -> None:
    """The committed Python of both contracts is what `scripts/generate_proto.py` makes now."""
    subprocess.run([sys.executable, _ROOT / "scripts/generate_proto.py", tmp_path], check=True)
    for name in ("llm_pb2.py", "llm_pb2.pyi", "front_pb2.py", "front_pb2.pyi"):
        fresh, committed = tmp_path / _PACKAGE / name, _ROOT / _PACKAGE / name
        assert fresh.read_text() == committed.read_text(), "run scripts/generate_proto.py"


@pytest.mark.parametrize(
    ("message", "documented"),
    [
        (llm_pb2.GenerateRequest.DESCRIPTOR, ["prompt", "user_id", "max_tokens", "temperature", "priority"]),
        (llm_pb2.GenerateResponse.DESCRIPTOR, ["text", "tokens_generated", "latency_ms"]),
    ],
)
def test_only_optional_fields_follow_the_documents(message: Descriptor, documented: list[str]) -> None:
    """§D1's fields have its numbers; every other one can be left out and be told from a value."""
    fields = sorted(message.fields, key=lambda field: field.number)
    assert [field.name for field in fields[: len(documented)]] == documented
    assert [field.number for field in fields] == list(range(1, len(fields) + 1))
    assert all(field.has_presence or field.is_repeated for field in fields[len(documented) :])
