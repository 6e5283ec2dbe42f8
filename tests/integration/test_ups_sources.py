"""Talking to apcupsd and NUT: the real daemons, and every way in which a server can fail to be one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from free_ports import free_port
from ups_daemons import (
    CALIBRATION,
    LOST,
    LOW,
    ON_BATTERY,
    Apcupsd,
    MadeUpUps,
    NisServer,
    Nut,
    nut,
    until,
)

from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.chosen import source_of
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.source import NoWord

pytestmark = pytest.mark.usefixtures("ups_is_well")


@pytest.fixture(scope="module")
def upsd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nut]:
    """The real upsd over NUT's dummy-ups."""
    with nut(tmp_path_factory.mktemp("nut")) as running:
        yield running


def _look(**settings: object) -> Observation:
    return asyncio.run(source_of(Ups.model_validate({"answer_timeout_s": 10.0, **settings})).look())


def _tells(attribute: str, wanted: object, **settings: object) -> bool:
    try:
        return bool(getattr(_look(**settings), attribute) == wanted)
    except NoWord:
        return False


def _cause(**settings: object) -> str:
    with pytest.raises(NoWord) as caught:
        _look(**settings)
    assert caught.value.place
    assert caught.value.remedy
    return caught.value.cause


def test_the_real_apcupsd_tells_what_the_ups_does(made_up: MadeUpUps, daemon: Apcupsd) -> None:
    """On mains, on battery, at a low battery, in a calibration; and when it has lost the UPS."""
    at = {"source": "apcupsd", "port": daemon.port}
    until(lambda: _tells("status", "ONLINE SLAVE", **at))
    made_up.fail_mains()
    made_up.charge = 19.0
    until(lambda: _tells("on_battery", wanted=True, **at))
    until(lambda: _tells("charge_percent", 19.0, **at))
    made_up.flags = ON_BATTERY | LOW
    until(lambda: _tells("low_battery", wanted=True, **at))
    made_up.flags = ON_BATTERY | CALIBRATION
    until(lambda: _tells("calibrating", wanted=True, **at))


def test_the_real_upsd_tells_what_the_ups_does(upsd: Nut) -> None:
    """Over the dummy driver; without its driver the data is stale, and said to be."""
    at = {"source": "nut", "port": upsd.port, "name": "test"}
    until(lambda: _tells("status", "OL", **at))
    upsd.tell(ups_status="OB LB", battery_charge="19", battery_runtime="100")
    until(lambda: _tells("low_battery", wanted=True, **at))
    until(lambda: _tells("runtime_s", 100.0, **at))
    assert "UNKNOWN-UPS" in _cause(**{**at, "name": "another"})
    upsd.stop_driver()
    until(lambda: not _tells("status", "OB LB", **at))
    assert "NUT's driver" in _cause(**at)


def test_a_lost_ups_is_no_word_of_it(made_up: MadeUpUps, server: NisServer) -> None:
    """apcupsd goes on answering, with the figures of before."""
    made_up.flags = LOST
    assert "COMMLOST" in _cause(source="apcupsd", port=server.port)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"", "closed in mid-answer"),
        (b"\x00\x1bAPC      : 001,", "closed in mid-answer"),
        (b"\x00\x0fSTATUS  : ONLI", "closed in mid-answer"),
        (b"\x00\x04" + b"\xff" * 4, "no answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2000, "no answer"),
        (b"\x00\x03a:b" * 1000, "no answer"),
        (b"\x00\x0bLINEV : 230\x00\x00", "no STATUS"),
    ],
)
def test_what_apcupsd_would_never_say_is_named(server: NisServer, answer: bytes, wanted: str) -> None:
    """Closing in mid-answer is what the package `apcaccess` reads on for ever at."""
    server.answer = answer
    assert wanted in _cause(source="apcupsd", port=server.port)


@pytest.mark.parametrize("source", ["apcupsd", "nut"])
@pytest.mark.parametrize("way", ["silent", "drips"])
def test_a_server_that_does_not_come_to_an_end_is_not_waited_for(
    server: NisServer, source: str, way: str
) -> None:
    """Longer than one answer may take as a whole: each byte of a slow one is in time."""
    setattr(server, way, True)
    began = time.monotonic()
    assert "no answer within 0.5 s" in _cause(source=source, port=server.port, answer_timeout_s=0.5)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("source", ["apcupsd", "nut"])
def test_a_server_that_is_not_there_is_said_to_be_away(source: str) -> None:
    """With the system's reason."""
    port = free_port()
    assert "no connection" in _cause(source=source, port=port)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"BEGIN LIST VAR ups\nVAR ups battery.charge", "closed in mid-answer"),
        (b"BEGIN LIST VAR ups\n\n", "no answer"),
        (b'BEGIN LIST VAR ups\nVAR ups ups.status "OB\n', "no answer"),
        (b"GET / HTTP/1.1\n", "no answer"),
        (b"x" * 100_000, "without an end"),
        (b"ERR ACCESS-DENIED\n", "refuses"),
        (b"ERR\n", "ERR ?"),
        (b"BEGIN LIST VAR ups\nVAR ups\nEND LIST VAR ups\n", "no ups.status"),
        (b"BEGIN LIST VAR ups\n" + b"VAR ups a b\n" * 2000, "no ups.status"),
    ],
)
def test_what_upsd_would_never_say_is_named(answer: bytes, wanted: str) -> None:
    """Each within the bounds of one answer."""

    async def ask() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            with pytest.raises(NoWord) as caught:
                await source_of(Ups(source="nut", port=port)).look()
            return caught.value.cause

    assert wanted in asyncio.run(ask())
