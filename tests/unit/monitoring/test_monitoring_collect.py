"""What `dreamseed metrics` tells, part by part."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import drill_records
from prometheus_client.parser import text_string_to_metric_families
from stack_snapshots import stack_snapshot

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.drill.timeline import Outcome
from dreamseed_cli.gateway.security.expiry import Condition, Entry
from dreamseed_cli.monitoring.box import certificate_metrics, disk_metrics, drill_metrics, left_metrics
from dreamseed_cli.monitoring.cards import stack_metrics
from dreamseed_cli.monitoring.collect import Exposition
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot

Samples = dict[tuple[str, tuple[str, ...]], float]


def _samples(text: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_a_part_that_fails_or_hangs_takes_nothing_from_the_others() -> None:
    """It is told as down, and as up again as soon as it answers."""
    broken = True

    async def good() -> bytes:
        return b"a 1.0\n"

    async def bad() -> bytes:
        if broken:
            raise FailedError("no")
        return b"b 2.0\n"

    async def hangs() -> bytes:
        await asyncio.sleep(60)
        return b""

    exposition = Exposition({"good": good, "bad": bad, "hangs": hangs}, within_s=0.05)
    found = _samples(await exposition.text())
    assert found["a", ()] == 1.0
    assert [found["dreamseed_collector_up", (name,)] for name in ("good", "bad", "hangs")] == [1, 0, 0]
    broken = False
    found = _samples(await exposition.text())
    assert (found["b", ()], found["dreamseed_collector_up", ("bad",)]) == (2.0, 1)


def test_a_cards_figures_are_told_and_what_it_keeps_to_itself_is_left_out() -> None:
    """A missing value is not zero."""
    card = CardSnapshot(
        index=1,
        name="c",
        state="quarantined",
        reason="xid",
        since=0.0,
        temperature_c=91,
        power_w=400.5,
        hot=True,
    )
    found = _samples(stack_metrics(stack_snapshot(cards=(card,))))
    assert found["dreamseed_gpu_temperature_celsius", ("1",)] == 91
    assert found["dreamseed_gpu_power_watts", ("1",)] == 400.5
    assert found["dreamseed_gpu_usable", ("1",)] == 0
    assert found["dreamseed_gpu_hot", ("1",)] == 1
    assert found["dreamseed_gpu_state", ("1", "quarantined", "xid")] == 1
    assert not any(name == "dreamseed_gpu_ecc_uncorrected" for name, _ in found)
    assert found["dreamseed_stack_started_timestamp_seconds", ()] == 1000


def test_the_disk_is_told_before_the_state_folder_is_there(tmp_path: Path) -> None:
    """By the nearest folder above it."""
    found = _samples(disk_metrics(tmp_path / "not" / "yet"))
    assert 0 < found["dreamseed_disk_free_bytes", ()] <= found["dreamseed_disk_size_bytes", ()]


def test_certificates_tell_their_end_and_what_is_wrong() -> None:
    """One that cannot be read has no end, and alarms."""
    now = datetime.now(UTC)
    good = Entry(Path("s.crt"), "server", (), "", now + timedelta(days=90), 90, Condition.GOOD)
    broken = Entry(Path("b.crt"), "unknown", (), "", None, None, Condition.BROKEN, "no")
    found = _samples(certificate_metrics([good, broken]))
    assert found["dreamseed_certificate_expiry_timestamp_seconds", ("s.crt", "server")] > now.timestamp()
    assert found["dreamseed_certificate_alarming", ("b.crt", "broken")] == 1
    assert found["dreamseed_certificate_alarming", ("good", "s.crt")] == 0


def test_what_short_runs_left_is_passed_on(tmp_path: Path) -> None:
    """A file that is not there yet is none."""
    path = tmp_path / "backup.prom"
    path.write_text("dreamseed_backup_alarms 0.0\n")
    assert left_metrics(path) == b"dreamseed_backup_alarms 0.0\n"
    assert left_metrics(tmp_path / "none") == b""


def test_the_newest_drill_of_a_scenario_is_told(tmp_path: Path) -> None:
    """When one last passed stays, also after one that failed."""
    passed, failed = drill_records.record(0), drill_records.record(1, Outcome.FAILED)
    found = _samples(drill_metrics([passed, failed]))
    scenario = (passed.scenario,)
    assert found["dreamseed_drill_last_success_timestamp_seconds", scenario] == passed.ended.timestamp()
    assert found["dreamseed_drill_passed", scenario] == 0
    assert found["dreamseed_drill_rto_seconds", scenario] == passed.rto_s
