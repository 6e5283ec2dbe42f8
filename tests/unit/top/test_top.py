"""`dreamseed top`: its figures, its screen, its keys."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import select
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from stack_snapshots import stack_snapshot

from dreamseed_cli.app import main
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.monitoring.collect import Exposition
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot, ReplicaSnapshot, ServiceSnapshot, StackSnapshot
from dreamseed_cli.top import keys, loop
from dreamseed_cli.top.figures import Figures, figures
from dreamseed_cli.top.first_tokens import WINDOW_S, FirstTokens, quantile
from dreamseed_cli.top.keys import Key
from dreamseed_cli.top.reading import Reading
from dreamseed_cli.top.screen import Seen, screen

BEFORE = """
dreamseed_queue_length{priority="premium"} 1
gen_ai_server_request_duration_seconds_count{priority="premium",replica="r0"} 10
gen_ai_server_time_to_first_token_seconds_bucket{priority="premium",replica="r0",le="0.1"} 10
gen_ai_server_time_to_first_token_seconds_bucket{priority="premium",replica="r0",le="+Inf"} 10
gen_ai_client_token_usage_sum{gen_ai_token_type="output",replica="r0"} 100
gen_ai_client_token_usage_sum{gen_ai_token_type="input",replica="r0"} 7
dreamseed_cache_lookups_total{workload="question",result="hit"} 5
"""
NOW = """
dreamseed_queue_length{priority="premium"} 3
gen_ai_server_request_duration_seconds_count{priority="premium",replica="r0"} 30
gen_ai_server_time_to_first_token_seconds_bucket{priority="premium",replica="r0",le="0.1"} 10
gen_ai_server_time_to_first_token_seconds_bucket{priority="premium",replica="r0",le="0.25"} 30
gen_ai_server_time_to_first_token_seconds_bucket{priority="premium",replica="r0",le="+Inf"} 210
gen_ai_client_token_usage_sum{gen_ai_token_type="output",replica="r0"} 500
gen_ai_client_token_usage_sum{gen_ai_token_type="input",replica="r0"} 900
dreamseed_rejections_total{priority="batch",reason="queue_full"} 4
dreamseed_cache_lookups_total{workload="question",result="hit"} 8
dreamseed_cache_lookups_total{workload="question",result="miss"} 1
dreamseed_cache_lookups_total{workload="question",result="bypass"} 9
dreamseed_backup_rpo_seconds 120
dreamseed_backup_last_success_timestamp_seconds 1000
dreamseed_ups_on_battery 1
dreamseed_ups_charge_ratio 0.8
"""


def _figures() -> Figures:
    before = Reading.parse(10.0, BEFORE)
    return figures(before, Reading.parse(12.0, NOW), _since(before), wall_clock=8200.0)


def _since(*readings: Reading) -> FirstTokens:
    first_tokens = FirstTokens()
    for reading in readings:
        first_tokens.add(reading)
    return first_tokens


def _snapshot(engines: int, cards: int = 0, provenance: Provenance = Provenance.SIMULATED) -> StackSnapshot:
    return stack_snapshot(
        profile="a-profile-with-a-rather-long-name-indeed",
        provenance=provenance,
        started_at=0.0,
        taken_at=90_000.0,
        gateway=GatewaySnapshot(state="serving", address="127.0.0.1:50051"),
        replicas=tuple(
            ReplicaSnapshot(
                name=f"r{i}",
                state="quarantined",
                reason="",
                detail="",
                since=0.0,
                endpoint="",
                running=128,
                waiting=64,
                tokens_per_s=12_345.6,
                kv_usage=1.0,
                failed=99_999,
                restarts=99,
            )
            for i in range(engines)
        ),
        services=tuple(
            ServiceSnapshot(name=f"service-{i}", mode="embedded", state="ready") for i in range(6)
        ),
        cards=tuple(
            CardSnapshot(
                index=i,
                name="NVIDIA GeForce RTX 5090",
                state="ok",
                reason="",
                since=0.0,
                utilisation=1.0,
                memory_used_bytes=30 << 30,
                power_w=575.0,
                temperature_c=88,
            )
            for i in range(cards)
        ),
    )


def _drawn(seen: Seen) -> list[str]:
    console = Console(file=io.StringIO(), width=80, height=24, record=True)
    console.print(screen(seen))
    return console.export_text().rstrip("\n").split("\n")


def test_figures_are_those_between_two_readings() -> None:
    """Rates by the clock that was passed in; a counter that appears counts from zero."""
    found = _figures()
    premium, _, batch = found.classes
    assert (premium.waiting, premium.requests_per_s) == (3, 10.0)
    assert premium.ttft_s == {"p50": math.inf, "p95": math.inf, "p99": None}
    assert (batch.rejected_per_s, batch.ttft_s["p50"]) == (2.0, None)
    assert found.tokens_per_s == 200.0
    assert found.cache_hits == 0.75
    assert (found.rpo_s, found.backup_age_s, found.on_battery, found.battery) == (120, 7200.0, True, 0.8)


def test_a_gateway_that_began_anew_gives_no_negative_rate() -> None:
    """Its counters start at zero."""
    before, now = Reading.parse(0.0, NOW), Reading.parse(1.0, BEFORE)
    found = figures(before, now, _since(before, now), wall_clock=0.0)
    assert found.tokens_per_s == 100.0
    assert (found.cache_hits, found.on_battery, found.backup_age_s) == (1.0, None, None)


def _told(at: float, *counts: int) -> Reading:
    """First tokens within 0.1, 0.25 and 1 s, and all."""
    bounds = ("0.1", "0.25", "1.0", "+Inf")
    name = "gen_ai_server_time_to_first_token_seconds_bucket"
    lines = (
        f'{name}{{priority="batch",le="{le}"}} {count}' for le, count in zip(bounds, counts, strict=True)
    )
    return Reading.parse(at, "\n".join(lines) + "\n")


def test_times_to_the_first_token_are_those_of_the_last_minutes() -> None:
    """Of 1,000 since the oldest reading 500 took 0.25 s at most, and nobody more than 1 s."""
    first_tokens = _since(_told(0, 9000, 9000, 9000, 9000), _told(10, 9000, 9500, 9500, 9500))
    now = _told(WINDOW_S, 9000, 9500, 10_000, 10_000)
    first_tokens.add(now)
    assert first_tokens.quantiles(now, "batch") == {
        "p50": 0.25,
        "p95": pytest.approx(0.925),
        "p99": pytest.approx(0.985),
    }
    later = _told(WINDOW_S + 5, 9000, 9500, 10_000, 10_000)
    first_tokens.add(later)
    assert first_tokens.quantiles(later, "batch")["p50"] == pytest.approx(0.625)
    assert first_tokens.quantiles(later, "premium")["p50"] is None


def test_a_gateway_that_began_anew_is_told_from_its_own_start() -> None:
    """Also while it has told fewer than the one before."""
    now = _told(20, 0, 0, 100, 100)
    first_tokens = _since(_told(0, 9000, 9000, 9000, 9000), now)
    assert first_tokens.quantiles(now, "batch")["p50"] == pytest.approx(0.625)


def test_a_quantile_needs_enough_samples() -> None:
    """As everywhere else: a p99 of ten is their maximum."""
    assert quantile({1.0: 10, math.inf: 10}, 0.5) is None
    assert quantile({1.0: 11, math.inf: 11}, 0.5) == pytest.approx(0.5)
    assert quantile({1.0: 600, math.inf: 600}, 0.99) is None


@pytest.mark.parametrize(("engines", "cards"), [(0, 0), (3, 3), (40, 40)])
@pytest.mark.parametrize("with_figures", [True, False])
def test_it_fits_80_columns_and_24_lines(engines: int, cards: int, with_figures: bool) -> None:
    """Whatever there is: what does not fit is counted."""
    lines = _drawn(Seen(_snapshot(engines, cards), _figures() if with_figures else None))
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= 80
    assert "SIMULATED" in lines[0]
    assert any("and 35 more cards" in line for line in lines) == (cards == 40)


def test_what_matters_at_3_a_m_is_on_it() -> None:
    """Queues, tokens, the backup's age, the battery, and the engine that keys act on."""
    text = "\n".join(_drawn(Seen(_snapshot(3, 1), _figures(), selected=1)))
    for words in (
        "200 tok/s in all (simulated)",
        "> 10 s",
        "ON BATTERY 80%",
        "backup 2 h old",
        "2 min of work",
    ):
        assert words in text
    assert re.search(r"^>\s+r1\b", text, re.MULTILINE)


def test_a_service_that_is_away_is_seen_however_many_are_well() -> None:
    """The line ends at 80 columns; what is cut off is well."""
    now = _snapshot(3)
    away = ServiceSnapshot(name="kafka", mode="external", state="away")
    (line,) = (
        one
        for one in _drawn(Seen(replace(now, services=(*now.services, away)), None))
        if one.startswith("services")
    )
    assert line.startswith("services  kafka away")


@pytest.mark.parametrize(
    ("selected", "first", "marked"), [(0, 0, 0), (4, 0, 4), (5, 1, 5), (39, 35, 39), (50, 35, 39)]
)
def test_the_engine_that_keys_act_on_is_shown(selected: int, first: int, marked: int) -> None:
    """However many there are, and also when there are fewer than before."""
    lines = _drawn(Seen(_snapshot(40), None, selected=selected))
    rows = [match for line in lines if (match := re.match(r"(>?)\s+r(\d+)\b", line))]
    assert [int(row[2]) for row in rows] == list(range(first, first + 5))
    assert [int(row[2]) for row in rows if row[1]] == [marked]


def test_a_loss_of_everything_is_no_number() -> None:
    """No backup can be restored: the exporter tells +Inf."""
    text = "\n".join(_drawn(Seen(_snapshot(1), replace(_figures(), rpo_s=math.inf))))
    assert "all work would be lost" in text


def test_a_measured_stack_is_not_called_simulated() -> None:
    """And one without backups says so."""
    quiet = replace(
        _figures(), backup_age_s=None, rpo_s=None, on_battery=False, battery=None, cache_hits=None
    )
    text = "\n".join(_drawn(Seen(_snapshot(1, provenance=Provenance.MEASURED), quiet)))
    assert "SIMULATED" not in text
    assert "no backup known" in text
    assert "on mains" in text


class Stack:
    """Remembers what it is asked for, or refuses it."""

    def __init__(self, refusal: str = "") -> None:
        self.asked: list[tuple[str, object]] = []
        self.refusal = refusal

    def restart(self, name: str) -> None:
        self._take(name, "restart")

    def drain(self, name: str, *, drained: bool) -> None:
        self._take(name, drained)

    def _take(self, name: str, what: object) -> None:
        if self.refusal:
            raise FailedError(self.refusal)
        self.asked.append((name, what))


def test_a_restart_asks_twice_and_tells_what_came_of_it() -> None:
    """One slip of a finger drains nothing."""
    stack = Stack()
    seen = loop.act(Seen(_snapshot(3), None), Key.UP, stack)
    assert seen.selected == 2
    seen = loop.act(seen, Key.RESTART, stack)
    assert (stack.asked, "Press r again" in seen.notice) == ([], True)
    seen = loop.act(seen, None, stack)
    seen = loop.act(seen, Key.RESTART, stack)
    assert (stack.asked, "drains" in seen.notice) == ([("r2", "restart")], True)
    assert loop.act(loop.act(seen, Key.RESTART, stack), Key.DOWN, stack).notice == ""
    assert loop.act(seen, Key.OTHER, stack).notice == ""


@pytest.mark.parametrize("pressed", [Key.RESTART, Key.DRAIN])
def test_what_cannot_be_is_told(pressed: Key) -> None:
    """Such as a restart while another is under way."""
    stack = Stack("another restart is under way")
    seen = loop.act(Seen(_snapshot(1), None), pressed, stack)
    assert loop.act(seen, pressed, stack).notice == "another restart is under way"
    assert loop.act(Seen(_snapshot(0), None), pressed, stack).notice == ""


def _serving(*drained: bool) -> Seen:
    stack = _snapshot(len(drained))
    replicas = tuple(
        replace(one, state="ready", drained=aside) for one, aside in zip(stack.replicas, drained, strict=True)
    )
    return Seen(replace(stack, replicas=replicas), None)


def test_draining_asks_twice_and_taking_back_once() -> None:
    """The other key's question is no answer to this one's, and what harms nobody is done at once."""
    stack = Stack()
    seen = loop.act(loop.act(_serving(False, False), Key.RESTART, stack), Key.DRAIN, stack)
    assert (stack.asked, "Press d again" in seen.notice, "No other" in seen.notice) == ([], True, False)
    seen = loop.act(seen, Key.DRAIN, stack)
    assert (stack.asked, "nothing new" in seen.notice) == ([("r0", True)], True)
    seen = loop.act(_serving(True, False), Key.DRAIN, stack)
    assert (stack.asked[1:], "requests again" in seen.notice) == ([("r0", False)], True)


def test_draining_the_last_that_serves_says_so() -> None:
    """In the question, which fits the screen."""
    question = loop.act(replace(_serving(True, False), selected=1), Key.DRAIN, Stack())
    assert "No other serves!" in question.notice
    assert any(question.notice in line for line in _drawn(question))


def test_a_drained_engine_is_called_so() -> None:
    """Not ready: it takes nothing. One that is down is down first of all."""
    text = "\n".join(_drawn(_serving(True, False)))
    assert re.search(r"r0\s+drained", text)
    assert re.search(r"r1\s+ready", text)
    down = replace(_snapshot(1).replicas[0], drained=True)
    assert (down.word, down.takes) == ("quarantined", False)


@pytest.fixture
def looker(monkeypatch: pytest.MonkeyPatch) -> loop.Looker:
    """A box whose supervisor is away at the second look."""
    looks = iter([_snapshot(2), None, _snapshot(3)])

    def fetch(_: StateDir) -> StackSnapshot:
        found = next(looks)
        if found is None:
            raise FailedError("the supervisor does not answer")
        return found

    async def gateway() -> bytes:
        return NOW.encode()

    monkeypatch.setattr(loop, "fetch_snapshot", fetch)
    return loop.Looker(StateDir(Path("/x")), Exposition({"gateway": gateway}))


def test_it_goes_on_while_the_supervisor_is_away(looker: loop.Looker) -> None:
    """And ends at q."""
    pressed = iter([None, Key.DOWN, None, Key.QUIT])
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    seen = loop.run(looker, console, lambda _: next(pressed))
    assert (len(seen.snapshot.replicas), seen.selected, seen.notice) == (3, 1, "")
    assert seen.figures is not None
    assert "does not answer" in console.file.getvalue()  # type: ignore[attr-defined]


def test_it_no_longer_says_so_once_the_supervisor_is_back(looker: loop.Looker) -> None:
    """Without a key: a screen that lives and says that it is dead is believed by nobody."""
    pressed = iter([None, None, Key.QUIT])
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    seen = loop.run(looker, console, lambda _: next(pressed))
    assert len(seen.snapshot.replicas) == 3
    assert not any("does not answer" in line for line in _drawn(seen))


def test_a_gateway_that_is_away_writes_nothing_across_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its log would: while a stack starts, and after it ended."""
    reading = loop.Looker.at(StateDir(tmp_path)).reading()
    assert reading.total("dreamseed_collector_up", part="gateway") == 0
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A real one: who types, and the program's end."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "rb", buffering=0) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield master, slave
    os.close(master)


@pytest.mark.parametrize(
    ("pressed", "meant"),
    [
        (b"q", [Key.QUIT]),
        (b"\x1b", [Key.QUIT]),
        (b"\x1b[A", [Key.UP]),
        (b"x", [Key.OTHER]),
        (b"", []),
        (b"jj", [Key.DOWN, Key.DOWN]),
        (b"rr", [Key.RESTART, Key.RESTART]),
        (b"kdd", [Key.UP, Key.DRAIN, Key.DRAIN]),
        (b"\x1b[B\x1b[B\x1bOA", [Key.DOWN, Key.DOWN, Key.UP]),
        (b"j" * 30, [Key.DOWN] * 30),
        (b"\x1b[1;5A\x1b[3~j", [Key.OTHER, Key.OTHER, Key.DOWN]),
        (b"\x1bjk", [Key.OTHER, Key.UP]),
        (b"\x1b[", [Key.OTHER]),
        (b"\x1b\x1b[A", [Key.QUIT, Key.UP]),
    ],
)
def test_keys_come_without_enter_and_one_by_one(
    terminal: tuple[int, int], pressed: bytes, meant: list[Key]
) -> None:
    """However fast they are typed; the terminal is as before afterwards."""
    master, slave = terminal
    before = termios.tcgetattr(slave)
    with keys.raw_keys() as keyboard:
        os.write(master, pressed)
        assert [keyboard.next_key(0.2) for _ in meant] == meant
        assert keyboard.next_key(0.01) is None
    assert termios.tcgetattr(slave) == before


def test_an_arrow_that_comes_in_two_parts_is_one_key(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over SSH: Escape alone would quit."""
    monkeypatch.setattr(keys, "_REST_WITHIN_S", 5.0)
    master, _ = terminal
    with keys.raw_keys() as keyboard:
        typed = [b"[", b"B"]
        monkeypatch.setattr(select, "select", _typing(master, typed, select.select))
        os.write(master, b"\x1b")
        assert keyboard.next_key(0.2) is Key.DOWN
    assert not typed


def _typing(master: int, typed: list[bytes], really: Callable[..., Any]) -> Callable[..., Any]:
    """Types the next part as soon as what was typed before has been read, and is waited on for more."""

    def wait(files: list[int], *others: Any) -> Any:
        found = really(files, [], [], 0)
        if not found[0] and typed:
            os.write(master, typed.pop(0))
        return really(files, *others)

    return wait


def test_a_terminal_that_is_closed_quits() -> None:
    """Whoever hung up wants nothing more."""
    reader, writer = os.pipe()
    os.write(writer, b"j")
    os.close(writer)
    keyboard = keys.Keyboard(reader)
    assert [keyboard.next_key(0.2) for _ in range(3)] == [Key.DOWN, Key.QUIT, Key.QUIT]
    os.close(reader)


@pytest.mark.parametrize(("options", "code"), [((), 3), (("--json",), 3)])
def test_without_a_stack_there_is_nothing_to_show(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], code: int
) -> None:
    """And it says how to start one."""
    with pytest.raises(SystemExit) as ended:
        main(["top", *options])
    said = capsys.readouterr()
    assert ended.value.code == code
    assert "dreamseed serve" in said.out + said.err


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, looker: loop.Looker) -> Callable[..., int]:
    """`dreamseed top` before a stack; its exit code."""
    monkeypatch.setattr("dreamseed_cli.supervisor.running.require_running", lambda _: None)
    monkeypatch.setattr(loop.Looker, "at", lambda _: looker)

    def once(*options: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["top", *options])
        return int(ended.value.code or 0)

    return once


def test_a_pipe_gets_a_hint_or_json(running: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """No escape codes in a log file."""
    assert running() == 2
    assert "dreamseed status" in capsys.readouterr().err
    assert running("--json") == 0
    assert '"replicas"' in capsys.readouterr().out
