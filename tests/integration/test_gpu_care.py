"""The care of the cards, whole: real child, real bindings, fake NVML; only the engines are made up."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest
from card_harness import GIB, PID, FakeOwner, card_of, caring
from fake_nvml import FakeNvml
from gateway_harness import until
from nvml_children import nvml_children

from dreamseed_cli.profile.resilience import GpuCare
from dreamseed_cli.supervisor.gpu import actions
from dreamseed_cli.supervisor.gpu.care import CardCare, CareState
from dreamseed_cli.supervisor.gpu.ladder import Rules


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two healthy cards, for every process that this test starts."""
    monkeypatch.setattr(actions, "_LOOK_EVERY_S", 0.02)
    fake = FakeNvml(tmp_path)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    return fake


def _nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """A stand-in on the PATH that notes its arguments; the file they are noted in."""
    told = folder / "nvidia-smi.told"
    script = folder / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >>{told}\n{body}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return told


async def test_healthy_cards_are_shown_and_left_alone(nvml: FakeNvml) -> None:
    """Figures of both, nothing told, nothing asked."""
    nvml.set(c1_temperature=93)
    owner = FakeOwner(nvml)
    async with caring(owner) as care:
        assert care.care.state is CareState.WATCHING
        assert care.minds(1)
        assert not care.minds(7)
        cool, hot = care.snapshot()
    assert (cool.index, cool.name, cool.state, cool.hot) == (0, "Fake GPU", "ok", False)
    assert (hot.memory_used_bytes, hot.temperature_c, hot.hot) == (28 * GIB, 93, True)
    assert hot.read_at is not None
    assert abs(hot.read_at - time.time()) < 60
    assert (owner.calls, owner.states) == ([], [])


async def test_an_engines_fault_is_repaired_by_the_first_rung(nvml: FakeNvml) -> None:
    """Ended, memory seen free, started, a token: each step told, the other card untouched."""
    owner = FakeOwner(nvml)
    async with caring(owner) as care:
        assert care.engine_fault(1, "CUDA error: unspecified launch failure")
        await until(lambda: card_of(care, 1).state == "ok")
        assert "recovered by a restart; CUDA error" in card_of(care, 1).detail
    assert owner.calls == [("end", 1), ("restart", 1)]
    assert owner.states == [
        (1, "ending", "engine_fault"),
        (1, "freeing", "processes_ended"),
        (1, "restarting", "memory_free"),
        (1, "ok", "engine_ready"),
    ]


async def test_an_xid_begins_the_ladder_at_once(nvml: FakeNvml) -> None:
    """Without waiting for a poll."""
    owner = FakeOwner(nvml)
    async with caring(owner, poll_s=30) as care:
        nvml.xid(0, 48)
        await until(lambda: owner.states)
        assert owner.states[0] == (0, "ending", "xid")
        assert owner.details[0] == "Xid 48 (double-bit ECC error)."
        await until(lambda: card_of(care, 0).state == "ok")
    assert owner.calls == [("end", 0), ("restart", 0)]


async def test_an_xid_of_a_program_makes_the_card_suspect_and_then_ok(nvml: FakeNvml) -> None:
    """Its engine is left to its own watchdog."""
    owner = FakeOwner(nvml)
    async with caring(owner, rules=Rules(suspect_s=0.2)):
        nvml.xid(0, 31)
        await until(lambda: (0, "ok", "nothing_wrong") in owner.states)
    assert owner.states == [(0, "suspect", "xid"), (0, "ok", "nothing_wrong")]
    assert owner.calls == []


async def test_new_memory_errors_begin_the_ladder(nvml: FakeNvml) -> None:
    """Old ones do not."""
    nvml.set(c0_ecc=7)
    owner = FakeOwner(nvml)
    async with caring(owner) as care:
        nvml.set(c0_ecc=9)
        await until(lambda: "recovered" in card_of(care, 0).detail)
    assert owner.details[0] == "2 more uncorrectable memory errors, 9 in all."
    assert owner.calls == [("end", 0), ("restart", 0)]


async def test_memory_that_is_not_freed(nvml: FakeNvml) -> None:
    """Our process stays on the card: it is taken out, with the process named, and the other serves on."""
    owner = FakeOwner(nvml)
    owner.leaves_memory = True
    async with caring(owner, memory_free_timeout_s=0.2) as care:
        care.engine_fault(1, "died")
        await until(lambda: owner.verbs(1)[-1:] == ["quarantine"])
        card = card_of(care, 1)
    assert (card.state, card.reason) == ("quarantined", "memory_held")
    assert f"process {PID + 1} of ours still on the card, 28.0 GiB in use" in card.detail
    assert owner.verbs(1) == ["end", "quarantine"]
    assert card_of(care, 0).state == "ok"


async def test_another_programs_memory_is_not_waited_for(nvml: FakeNvml) -> None:
    """It is named, and the engine started beside it."""
    owner = FakeOwner(nvml)
    nvml.set(c0_pids=f"{PID},77")
    owner.leaves_memory = True
    async with caring(owner) as care:
        care.engine_fault(0, "died")
        await until(lambda: owner.calls)
        nvml.set(c0_pids=77, c0_used=9 * GIB)
        await until(lambda: card_of(care, 0).state == "ok")
        assert "another program uses the card: process 77, 9.0 GiB in use" in card_of(care, 0).detail


async def test_memory_of_a_card_that_lists_no_processes(nvml: FakeNvml) -> None:
    """It counts as free when it has fallen and falls no more."""
    owner = FakeOwner(nvml)
    nvml.set(c0_pids=-1)
    owner.leaves_memory = True
    async with caring(owner) as care:
        care.engine_fault(0, "died")
        await until(lambda: owner.calls)
        nvml.set(c0_used=5 * GIB)
        await until(lambda: card_of(care, 0).state == "ok")
        assert "5.0 GiB in use by others, it seems" in card_of(care, 0).detail


@pytest.mark.parametrize("how", ["error", "xid", "moved"])
async def test_a_card_that_falls_off_the_bus(nvml: FakeNvml, how: str) -> None:
    """Out of use at once, a reboot recommended, nothing restarted; the card after it keeps its number."""
    owner = FakeOwner(nvml)
    async with caring(owner) as care:
        if how == "error":
            nvml.set(c0_error=15)
        elif how == "xid":
            nvml.xid(0, 79)
        else:
            nvml.set(c0_gone=1)
            for child in nvml_children():
                child.kill()
        await until(lambda: owner.verbs(0) == ["quarantine"])
        card = card_of(care, 0)
        assert card.state == "lost"
        assert card.advice.startswith("Reboot this machine")
        await until(lambda: card_of(care, 1).state == "ok")
        assert card_of(care, 1).uuid == "GPU-fake-1"
    assert owner.verbs(1) == []
    assert "Reboot this machine" in owner.details[-1] or how == "moved"


async def test_a_hanging_card_is_suspect_and_its_engine_serves_on(nvml: FakeNvml) -> None:
    """The reader is killed, the other card is read on, and once NVML answers again all is well."""
    owner = FakeOwner(nvml)
    async with caring(owner, call_timeout_s=0.8) as care:
        nvml.set(c0_hang=1, c1_gpu=77)
        await until(lambda: card_of(care, 0).state == "suspect")
        await until(lambda: card_of(care, 1).utilisation == 0.77)
        assert card_of(care, 0).reason == "hang"
        assert "NVML at card 0 does not answer" in card_of(care, 0).detail
        assert card_of(care, 1).state == "ok"
        nvml.set(c0_hang=0)
        await until(lambda: card_of(care, 0).state == "ok")
    assert owner.calls == []


async def test_a_fault_of_a_hanging_card(nvml: FakeNvml) -> None:
    """Its memory cannot be seen: it is taken out and asked no more, and the other card can climb."""
    owner = FakeOwner(nvml)
    async with caring(owner, call_timeout_s=0.8, memory_free_timeout_s=0.1) as care:
        nvml.set(c0_hang=1)
        await until(lambda: card_of(care, 0).state == "suspect")
        care.engine_fault(0, "died")
        await until(lambda: owner.verbs(0) == ["end", "quarantine"])
        assert "NVML hangs at card 0" in card_of(care, 0).advice
        care.engine_fault(1, "died")
        await until(lambda: "recovered" in card_of(care, 1).detail)
    assert owner.verbs(1) == ["end", "restart"]


async def test_all_of_nvml_gone_in_mid_run(nvml: FakeNvml) -> None:
    """The driver was updated underneath: the cards are suspect, the engines serve on."""
    owner = FakeOwner(nvml)
    async with caring(owner) as care:
        nvml.set(init=18)
        for child in nvml_children():
            child.kill()
        await until(lambda: "reboot this machine" in card_of(care, 1).detail)
        assert {card.state for card in care.snapshot()} == {"suspect"}
        assert care.care.state is CareState.WATCHING
    assert owner.calls == []


async def test_a_reboot_that_nvml_recommends(nvml: FakeNvml) -> None:
    """Shown while the engine works; at its fault the card is taken out instead of restarted."""
    owner = FakeOwner(nvml)
    async with caring(owner) as care:
        nvml.set(c0_recovery=2)
        await until(lambda: card_of(care, 0).state == "suspect")
        assert "Reboot this machine: NVML says" in card_of(care, 0).advice
        assert owner.calls == []
        nvml.xid(0, 119)
        await until(lambda: owner.verbs(0) == ["quarantine"])
        assert "Reboot" in card_of(care, 0).advice
    assert owner.calls == [("quarantine: Xid 119 (the GPU's firmware (GSP) did not answer in time)", 0)]


async def test_the_reset_that_succeeds(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole ladder: restart fails, the card is reset by its uuid while nobody reads it, restart works."""
    owner = FakeOwner(nvml)
    owner.starts_up = False
    look = tmp_path / "look.py"
    look.write_text(
        "import psutil, sys\n"
        "children = psutil.Process(int(sys.argv[1])).children()\n"
        "print(sum('nvml_child' in ' '.join(c.cmdline()) for c in children if c.status() != 'zombie'))\n"
    )
    count = f"{sys.executable} {look} {os.getpid()} >>{tmp_path}/readers"
    told = _nvidia_smi(tmp_path, monkeypatch, f"{count}\necho 'GPU 00000000:01:00.0 was successfully reset.'")
    async with caring(owner, allow_reset=True) as care:
        care.engine_fault(1, "died")
        await until(lambda: card_of(care, 1).state == "resetting")
        owner.starts_up = True
        await until(lambda: card_of(care, 1).state == "ok")
        detail = card_of(care, 1).detail
    assert told.read_text().split("\n")[:1] == ["--gpu-reset -i GPU-fake-1"]
    assert (tmp_path / "readers").read_text() == "0\n"
    assert owner.verbs(1) == ["end", "restart", "end", "restart"]
    assert "recovered by a reset and a restart" in detail
    assert "was successfully reset" in detail


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        ("echo 'GPU is in use by another client'; exit 19", "reset_failed", "exit code 19: GPU is in use"),
        ("echo started; sleep 60", "reset_timed_out", "did not end within 2 s and was killed: started"),
        ("exit 4", "reset_failed", "without a word"),
    ],
)
async def test_the_reset_that_does_not(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str, said: str
) -> None:
    """Failed or hung: the card is taken out with what was printed, and nothing of the reset is left."""
    _nvidia_smi(tmp_path, monkeypatch, body)
    owner = FakeOwner(nvml)
    owner.starts_up = False
    timeout_s = 2.0 if reason == "reset_timed_out" else 60.0
    async with caring(owner, allow_reset=True, reset_timeout_s=timeout_s) as care:
        care.engine_fault(0, "died")
        await until(lambda: owner.verbs(0)[-1:] == ["quarantine"])
        card = card_of(care, 0)
        await until(lambda: not _sleepers())
    assert (card.state, card.reason) == ("quarantined", reason)
    assert said in card.detail


def _sleepers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() in {"sh", "sleep"}]


async def test_no_nvidia_smi(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The driver's library without its tools, as in a container."""
    monkeypatch.setenv("PATH", str(tmp_path))
    owner = FakeOwner(nvml)
    owner.starts_up = False
    async with caring(owner, allow_reset=True) as care:
        care.engine_fault(0, "died")
        await until(lambda: owner.verbs(0)[-1:] == ["quarantine"])
        assert "nvidia-smi cannot be started" in card_of(care, 0).detail


async def test_no_reset_without_leave(
    nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default: restart, then quarantine."""
    told = _nvidia_smi(tmp_path, monkeypatch, "exit 0")
    owner = FakeOwner(nvml)
    owner.starts_up = False
    async with caring(owner) as care:
        care.engine_fault(0, "died")
        await until(lambda: owner.verbs(0) == ["end", "restart", "quarantine"])
        assert not care.release(1)
        owner.starts_up = True
        assert care.release(0)
        await until(lambda: card_of(care, 0).state == "ok")
    assert owner.verbs(0)[-1] == "restart"
    assert not told.exists()


async def test_two_cards_climb_at_once(nvml: FakeNvml) -> None:
    """Each with one action at a time, even when faults pour in."""
    owner = FakeOwner(nvml)
    owner.gate.clear()
    async with caring(owner) as care:
        for _ in range(3):
            care.engine_fault(0, "died")
            care.engine_fault(1, "died")
        await until(lambda: len(owner.calls) == 2)
        assert owner.calls == [("end", 0), ("end", 1)]
        owner.gate.set()
        await until(lambda: all("recovered" in card.detail for card in care.snapshot()))
    assert owner.verbs(0) == owner.verbs(1) == ["end", "restart"]


async def test_an_owner_that_raises(nvml: FakeNvml) -> None:
    """Whatever goes wrong there: the card ends out of use, and the care goes on."""
    owner = FakeOwner(nvml)
    owner.raises = OSError("no fork")
    async with caring(owner, memory_free_timeout_s=0.1) as care:
        nvml.set(c0_pids="none", c0_used=0)
        care.engine_fault(0, "died")
        await until(lambda: owner.verbs(0) == ["end", "restart", "quarantine"])
        assert "its engine cannot be started: no fork" in card_of(care, 0).detail
        assert care.minds(1)


async def test_a_stop_in_mid_climb(nvml: FakeNvml) -> None:
    """What is under way is cancelled; nothing is minded any more, and no reader is left."""
    owner = FakeOwner(nvml)
    owner.gate.clear()
    async with caring(owner) as care:
        care.engine_fault(0, "died")
        await until(lambda: owner.calls)
    assert not care.engine_fault(1, "died")
    assert nvml_children() == []


async def test_nothing_to_watch(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Switched off, no card in use, no driver: said in one state, no process started, faults not minded."""
    never = (sys.executable, "-c", "open('started', 'w')")
    monkeypatch.chdir(tmp_path)
    for settings, cards, state in (
        (GpuCare(watch=False), frozenset({0}), CareState.OFF),
        (GpuCare(), frozenset[int](), CareState.NO_CARDS),
    ):
        care = CardCare(FakeOwner(nvml, cards), settings, reader=never)
        await care.run()
        assert (care.care.state, care.snapshot(), care.engine_fault(0, "x")) == (state, (), False)
        assert care.care.detail
    assert not (tmp_path / "started").exists()
    nvml.set(init=12)
    care = CardCare(FakeOwner(nvml), GpuCare())
    await care.run()
    assert (care.care.state, care.care.detail) == (CareState.NO_DRIVER, "NVML Shared Library Not Found")
    assert not care.release(0)


async def test_nvml_that_cannot_be_read_at_first(nvml: FakeNvml) -> None:
    """Until it can, faults are not minded: without readings the ladder would only quarantine."""
    nvml.set(init=4)
    owner = FakeOwner(nvml)
    async with caring(owner, wait=False) as care:
        await until(lambda: "/dev/nvidia" in care.care.detail)
        assert (care.care.state, care.engine_fault(0, "x")) == (CareState.STARTING, False)
        nvml.set(init=0)
        await until(lambda: care.minds(0))
    assert owner.calls == []
