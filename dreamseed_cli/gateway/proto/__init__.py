"""The wire contract of §D1 (`llm.proto`), and the Python that `scripts/generate_proto.py` makes of it."""

SERVICE = "LLMService"
GENERATE = f"/{SERVICE}/Generate"
GENERATE_STREAM = f"/{SERVICE}/GenerateStream"

PROVENANCE_KEY = "x-dreamseed-provenance"
"""Trailing metadata of every call that an emulated engine answers, wherever it runs: `simulated`."""
REQUEST_ID_KEY = "x-request-id"
"""Trailing metadata of every accepted call: the request's own id, or the one the gateway made up."""
REASON_KEY = "x-dreamseed-reason"
"""Trailing metadata of a call that was refused or failed: why, as a label, such as `cannot_verify`."""
EVENT_ID_KEY = "x-dreamseed-event-id"
"""Metadata of a trusted caller's call: the id of the request's event, a UUID. Who gets no word of the gateway
may then tell of the request itself, and it is one event all the same.
"""
