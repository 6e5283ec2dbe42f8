"""`db tune`: settings from a box."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.database.settings import ServerSetting, Wanted
from dreamseed_cli.database.tuning.box import Box, Storage, machine_cores, machine_memory_bytes, storage_below
from dreamseed_cli.database.tuning.derive import GIB, KIB, MIB, Derived, derive, worst_case_bytes
from dreamseed_cli.database.tuning.differences import compare

DOCUMENT_BOX = Box(32 * GIB, 16, Storage.NVME, 1000 * GIB, 500)
BOXES = st.builds(
    Box,
    memory_bytes=st.integers(GIB // 4, 4096 * GIB),
    cores=st.integers(1, 512),
    storage=st.sampled_from(Storage),
    disk_free_bytes=st.integers(0, 10**15),
    connections=st.integers(1, 5000),
)


def _pending(setting: str, waiting: str) -> ServerSetting:
    """A setting whose value in the files, `waiting`, holds from the next start on."""
    return ServerSetting("work_mem", setting, "kB", "postmaster", "?", "configuration file", True, waiting)


def _values(box: Box) -> dict[str, float]:
    return {one.name: one.plain for one in derive(box)}


def test_the_documents_box_gets_the_documents_settings_but_for_work_mem() -> None:
    """§E1 is a fair choice for its box, except that 500 sorts of 64 MB do not fit beside the rest."""
    texts = {one.name: one.text for one in derive(DOCUMENT_BOX)}
    assert texts == {
        "shared_buffers": "8GB",
        "effective_cache_size": "24GB",
        "maintenance_work_mem": "2GB",
        "checkpoint_completion_target": "0.9",
        "wal_buffers": "16MB",
        "default_statistics_target": "100",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "work_mem": "18MB",
        "min_wal_size": "2GB",
        "max_wal_size": "8GB",
        "max_worker_processes": "16",
        "max_parallel_workers_per_gather": "4",
        "max_parallel_workers": "16",
    }


def test_the_documents_work_mem_does_not_fit_its_memory() -> None:
    """8 GiB + 500 x 64 MiB x 2 + 3 x 2 GiB = 76.5 GiB of 32."""
    document = {"shared_buffers": 8 * GIB, "work_mem": 64 * MIB, "maintenance_work_mem": 2 * GIB}
    assert worst_case_bytes(document, 500) == 76.5 * GIB


@given(BOXES)
def test_the_derived_memory_fits_at_worst_unless_the_least_work_mem_is_too_much(box: Box) -> None:
    """Whatever the box: it never promises more memory than there is."""
    values = _values(box)
    assert worst_case_bytes(values, box.connections) <= box.memory_bytes or values["work_mem"] == 64 * KIB


@given(BOXES)
def test_every_value_is_one_that_postgresql_takes(box: Box) -> None:
    """Whole units, nothing under the least that it takes, the two WAL bounds in order."""
    for one in derive(box):
        assert one.plain > 0
        assert not one.is_bytes or one.text[-2:] in ("kB", "MB", "GB")
        assert not one.is_bytes or one.text[:-2].isdigit()
    values = _values(box)
    assert values["min_wal_size"] < values["max_wal_size"]
    assert values["max_parallel_workers_per_gather"] <= max(1, values["max_parallel_workers"])


def test_a_disk_that_spins_makes_random_pages_dear() -> None:
    """PostgreSQL's own defaults were made for it."""
    values = _values(Box(8 * GIB, 4, Storage.HDD, 100 * GIB, 100))
    assert (values["random_page_cost"], values["effective_io_concurrency"]) == (4.0, 2)


@pytest.mark.parametrize(
    ("setting", "differs", "appliable", "change"),
    [
        (ServerSetting("work_mem", "18432", "kB", "user", "18MB"), False, False, None),
        (ServerSetting("work_mem", "4096", "kB", "user", "4MB"), True, True, "reload"),
        (ServerSetting("work_mem", "4096", "kB", "postmaster", "4MB"), True, True, "restart"),
        (
            ServerSetting("work_mem", "4096", "kB", "user", "4MB", "command line"),
            True,
            False,
            "fixed at start",
        ),
        (
            ServerSetting("work_mem", "4096", "kB", "postmaster", "4MB", "configuration file", pending=True),
            True,
            False,
            "set; restart",
        ),
        (_pending("4096", "18MB"), True, False, "set; restart"),
        (_pending("4096", "9MB"), True, True, "restart"),
        (_pending("4096", ""), True, True, "restart"),
        (_pending("18432", "9MB"), True, True, "restart"),
        (ServerSetting("work_mem", "auto", None, "user", "auto"), True, True, "reload"),
        (None, False, False, "the server has no such setting"),
    ],
)
def test_what_differs_and_what_a_change_needs(
    setting: ServerSetting | None, differs: bool, appliable: bool, change: str | None
) -> None:
    """Only what ALTER SYSTEM reaches is set by --apply; a value that waits for a restart gives way."""
    derived = Derived("work_mem", 18 * MIB, is_bytes=True, why="because")
    (found,) = compare([derived], [Wanted("work_mem", 64, "MB")], {"work_mem": setting} if setting else {})
    assert (found.differs, found.appliable, found.change) == (differs, appliable, change)


@pytest.mark.parametrize(
    ("device", "rotational", "kind"),
    [
        ("pci0000/nvme/nvme0/nvme0n1", "0", Storage.NVME),
        ("pci0000/ata1/block/sda", "0", Storage.SSD),
        ("pci0000/ata1/block/sda", "1", Storage.HDD),
        ("pci0000/virtio0/block/vda", "1", Storage.SSD),
    ],
)
@pytest.mark.parametrize("partition", ["", "/part1"])
def test_the_kind_of_disk_is_the_kernels_word(
    tmp_path: Path, device: str, rotational: str, kind: Storage, partition: str
) -> None:
    """A partition has its disk's; a virtual disk says that it spins and does not know."""
    disk = tmp_path / device
    (disk / "queue").mkdir(parents=True)
    (disk / "queue" / "rotational").write_text(f"{rotational}\n")
    Path(f"{disk}{partition}").mkdir(exist_ok=True)
    number = tmp_path.stat().st_dev
    devices = tmp_path / "dev"
    devices.mkdir()
    (devices / f"{os.major(number)}:{os.minor(number)}").symlink_to(f"{disk}{partition}")
    assert storage_below(tmp_path, devices) is kind


def test_a_disk_that_the_kernel_does_not_tell_is_taken_for_an_ssd(tmp_path: Path) -> None:
    """Such as an overlay's or the network's."""
    assert storage_below(tmp_path, tmp_path) is Storage.SSD


def test_this_machine_has_memory_and_cores() -> None:
    """Not more than the machine, whatever a control group says."""
    assert 0 < machine_memory_bytes() <= psutil.virtual_memory().total
    assert 1 <= machine_cores() <= (psutil.cpu_count() or 1)
