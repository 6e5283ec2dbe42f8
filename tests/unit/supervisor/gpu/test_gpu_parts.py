"""What readings mean: which card they belong to, which errors are new, what people see of them."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console

from dreamseed_cli.supervisor.gpu.ladder import Card, CardState, FaultKind, FaultSeen, Read, Reason
from dreamseed_cli.supervisor.gpu.places import find
from dreamseed_cli.supervisor.gpu.reading import CardReading, Loss, LostCard, Poll, Problem, poll_from
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot, card_snapshot
from dreamseed_cli.supervisor.gpu.view import cards_table
from dreamseed_cli.supervisor.gpu.watched import Watched
from dreamseed_cli.supervisor.gpu.xids import _BY_CODE, _ENTRIES, Severity, xid

_GIB = 1 << 30


def _reading(index: int, uuid: str = "", **figures: object) -> CardReading:
    return CardReading(index, uuid, "Fake GPU", **figures)  # type: ignore[arg-type]


def test_a_poll_survives_its_way_through_json() -> None:
    """The child writes it, the supervisor reads it."""
    full = _reading(0, "GPU-0", utilisation=0.5, throttle=("power_cap",), pids=(1, 2))
    poll = Poll((full, _reading(1)), (LostCard(2, "GPU-2", Loss.LOST, "gone"),))
    assert poll_from(json.loads(json.dumps(asdict(poll)))) == poll
    failed = Poll(problem=Problem.DRIVER_MISSING, detail="no library")
    assert poll_from(json.loads(json.dumps(asdict(failed)))) == failed


def test_a_card_is_found_by_its_uuid_where_that_is_known() -> None:
    """After another card has gone, the index of ours has moved."""
    poll = Poll((_reading(0, "GPU-a"), _reading(1, "GPU-c")), (LostCard(2, "", Loss.LOST),))
    assert find(poll, 1, "") == poll.cards[1]
    assert find(poll, 2, "GPU-c") == poll.cards[1]
    assert find(poll, 1, "GPU-b") == LostCard(1, "GPU-b", Loss.NOT_FOUND, "NVML no longer lists it")
    assert find(poll, 2, "GPU-d") == poll.lost[0]


def test_only_new_memory_errors_are_a_fault() -> None:
    """Those of earlier runs stay in the count until the driver is loaded anew."""
    watched = Watched(Card(0, 0.0))
    assert watched.take(_reading(0, ecc_uncorrected=5), 1.0) == [Read()]
    assert watched.take(_reading(0, ecc_uncorrected=5, recovery_action="none"), 2.0) == [
        Read(recovery_action="none")
    ]
    fault = FaultSeen("2 more uncorrectable memory errors, 7 in all", FaultKind.ECC)
    assert watched.take(_reading(0, ecc_uncorrected=7), 3.0) == [Read(), fault]
    assert watched.take(_reading(0), 4.0) == [Read()]
    assert watched.take(_reading(0, ecc_uncorrected=9), 5.0) == [Read()]


def test_a_lost_card_is_a_fault_and_keeps_its_last_figures() -> None:
    """What was last read stays to be seen, with its age."""
    watched = Watched(Card(0, 0.0))
    watched.take(_reading(0, "GPU-0", temperature_c=50), 1.0)
    assert watched.take(LostCard(0, "GPU-0", Loss.LOST, "GPU is lost"), 2.0) == [
        FaultSeen("GPU is lost", FaultKind.LOST)
    ]
    [fault] = watched.take(LostCard(0, "GPU-0", Loss.RESET_REQUIRED), 2.0)
    assert isinstance(fault, FaultSeen)
    assert fault.kind is FaultKind.RESET_REQUIRED
    assert (watched.read_at, watched.uuid) == (1.0, "GPU-0")


def test_the_table_of_xids() -> None:
    """Each is there once; what we do not know is no fault of the card."""
    assert len(_BY_CODE) == len(_ENTRIES)
    reboots = [entry.code for entry in _ENTRIES if entry.severity is Severity.REBOOT]
    assert reboots == [79]
    assert str(xid(48)) == "Xid 48 (double-bit ECC error)"
    assert (xid(9999).severity, "NVIDIA" in xid(9999).meaning) == (Severity.APP, True)


def _shown(*snapshots: CardSnapshot) -> str:
    console = Console(width=200, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(cards_table(snapshots))
    return capture.get()


def test_the_table_for_people() -> None:
    """Figures with their units, a dash where a card does not tell, the advice beside the state."""
    figures = _reading(
        *(0, "GPU-0"),
        utilisation=0.93,
        memory_used_bytes=28 * _GIB,
        memory_total_bytes=32 * _GIB,
        power_w=431.4,
        power_limit_w=575.0,
        temperature_c=91,
        throttle=("power_cap", "hw_thermal"),
        ecc_uncorrected=3,
    )
    well = card_snapshot(Card(0, 0.0), figures, since=1.0, read_at=2.0, hot_c=90)
    lost = Card(1, 0.0, CardState.LOST, Reason.LOST, "GPU is lost")
    text = _shown(well, card_snapshot(lost, None, since=1.0, read_at=None, hot_c=90))
    for part in ("93%", "28.0/32.0 GiB", "431/575 W", "91 °C", "power_cap, hw_thermal", "hot: 91 °C"):
        assert part in text
    assert "3 uncorrectable memory errors" in text
    assert "GPU is lost. Reboot this machine" in text
    assert " - " in text


def test_a_card_that_tells_little() -> None:
    """Power without a limit; clocks that nothing holds down."""
    snapshot = card_snapshot(
        Card(2, 0.0), _reading(1, "GPU-2", power_w=80.0, throttle=()), since=1.0, read_at=2.0, hot_c=90
    )
    assert (snapshot.index, snapshot.hot, snapshot.name) == (2, False, "Fake GPU")
    text = _shown(snapshot)
    assert "80 W" in text
    assert "none" in text
