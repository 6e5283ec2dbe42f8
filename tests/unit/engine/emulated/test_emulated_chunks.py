"""The emulated engine's bodies against those recorded from vLLM 0.32 (SmolLM2-135M on a CPU)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.engine.emulated.chunks import SYSTEM_FINGERPRINT, ChunkWriter, Stamp, whole_response
from dreamseed_cli.engine.emulated.protocol import Job
from dreamseed_cli.engine.emulated.text import Answer, Sampling

RECORDED = Path(__file__).parent / "recorded"
VLLM_FINGERPRINT = "vllm-0.32.0-a616fa79"


def job(*, chat: bool, prompt_tokens: int, usage: bool = False, per_chunk: bool = False) -> Job:
    """A streaming request."""
    return Job(
        chat=chat,
        prompt="Hi",
        prompt_tokens=prompt_tokens,
        sampling=Sampling(max_tokens=60),
        priority=0,
        stream=True,
        include_usage=usage,
        usage_per_chunk=per_chunk,
    )


def stamp_of(document: dict[str, Any]) -> Stamp:
    """What a recorded body was stamped with."""
    return Stamp(document["id"], document["created"], document["model"])


def text_of(choice: dict[str, Any]) -> str:
    """The text of a recorded choice, whichever the route."""
    text: str = choice["delta"]["content"] if "delta" in choice else choice["text"]
    return text


@pytest.mark.parametrize(
    ("name", "prompt_tokens", "usage", "per_chunk"),
    [
        ("chat_usage", 31, True, True),
        ("chat_plain", 34, False, False),
        ("completion_usage", 1, True, True),
        ("completion_stop", 5, True, False),
    ],
)
def test_stream_is_vllms_byte_for_byte(name: str, prompt_tokens: int, usage: bool, per_chunk: bool) -> None:
    """With vLLM's own tokens, the stream differs from the recorded one in the fingerprint only."""
    recorded = (RECORDED / f"{name}.sse").read_bytes()
    events = [json.loads(line[6:]) for line in recorded.splitlines() if line.startswith(b"data: {")]
    chat = name.startswith("chat")
    choices = [event["choices"][0] for event in events if event["choices"]][1 if chat else 0 :]
    pieces = tuple(text_of(choice) for choice in choices)
    answer = Answer(pieces, choices[-1]["finish_reason"], choices[-1]["stop_reason"])
    wanted = job(chat=chat, prompt_tokens=prompt_tokens, usage=usage, per_chunk=per_chunk)
    writer = ChunkWriter(wanted, stamp_of(events[0]))

    body = writer.opening()
    body += b"".join(writer.token(text, count) for count, text in enumerate(pieces[:-1], start=1))
    body += writer.closing(pieces[-1], answer)

    assert body.replace(SYSTEM_FINGERPRINT.encode(), VLLM_FINGERPRINT.encode()) == recorded


@pytest.mark.parametrize(("name", "prompt_tokens"), [("chat", 31), ("completion", 1)])
def test_whole_response_has_vllms_fields(name: str, prompt_tokens: int) -> None:
    """A response that is not streamed has vLLM's fields in vLLM's order and with its values."""
    recorded = json.loads((RECORDED / f"{name}.json").read_bytes())
    choice = recorded["choices"][0]
    text = choice["message"]["content"] if name == "chat" else choice["text"]
    answer = Answer((text, "", ""), choice["finish_reason"])

    body = whole_response(job(chat=name == "chat", prompt_tokens=prompt_tokens), answer, stamp_of(recorded))

    expected = recorded | {"system_fingerprint": SYSTEM_FINGERPRINT}
    assert json.dumps(json.loads(body)) == json.dumps(expected)


def test_text_is_escaped() -> None:
    """Quotes, control characters and Korean come through JSON unharmed, as one event."""
    writer = ChunkWriter(job(chat=True, prompt_tokens=3), Stamp("id", 1, 'na"me'))
    event = writer.token('say "네"\n\x00', 1)
    assert event.count(b"\n\n") == 1
    document = json.loads(event.removeprefix(b"data: "))
    assert text_of(document["choices"][0]) == 'say "네"\n\x00'
    assert document["model"] == 'na"me'
