"""The log's lines, and which of them are sent."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from dreamseed_cli.core.log import configure_logging


@pytest.mark.parametrize(
    ("least", "sent"), [(logging.NOTSET, ["found", "lost"]), (logging.WARNING, ["lost"])]
)
def test_only_what_matters_enough_is_sent(least: int, sent: list[str]) -> None:
    """One JSON object a line, with its level."""
    stream = io.StringIO()
    configure_logging(stream, least=least)
    log = structlog.get_logger()
    log.info("found")
    log.warning("lost", cause="refused")

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == sent
    assert lines[-1]["level"] == "warning"
    assert lines[-1]["cause"] == "refused"
