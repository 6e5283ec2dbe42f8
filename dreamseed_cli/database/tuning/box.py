"""What a PostgreSQL server stands on: memory, cores and disk, asked of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil


class Storage(StrEnum):
    """The kind of disk below the data directory."""

    NVME = "nvme"
    SSD = "ssd"
    HDD = "hdd"


@dataclass(frozen=True, slots=True)
class Box:
    """memory_bytes: what PostgreSQL may take of the machine's. disk_free_bytes: where its WAL lies.

    connections: the most at the same time (max_connections).
    """

    memory_bytes: int
    cores: int
    storage: Storage
    disk_free_bytes: int
    connections: int


def machine_memory_bytes() -> int:
    """The memory of this machine, or the control group's bound if that is less (cgroup v2's memory.max)."""
    total = psutil.virtual_memory().total
    try:
        bound = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(bound)) if bound.isdigit() else total


def machine_cores() -> int:
    """Those that this process may run on (sched_getaffinity(2))."""
    return len(os.sched_getaffinity(0))


def storage_below(folder: Path, devices: Path = Path("/sys/dev/block")) -> Storage:
    """The kind of disk that `folder` lies on, from the kernel's sysfs.

    What the kernel does not know (a network disk, an overlay, a virtual machine's disk, which says that it
    spins whatever lies below) counts as an SSD: the middle of the three.
    """
    number = folder.stat().st_dev
    device = devices / f"{os.major(number)}:{os.minor(number)}"
    try:
        found = device.resolve(strict=True)
        # A partition has no queue of its own; the disk above it does.
        queue = next(one / "queue" for one in (found, found.parent) if (one / "queue").is_dir())
        spins = (queue / "rotational").read_text().strip() == "1"
    except (OSError, StopIteration):
        return Storage.SSD
    if "nvme" in str(found):
        return Storage.NVME
    return Storage.HDD if spins and "virtio" not in str(found) else Storage.SSD
