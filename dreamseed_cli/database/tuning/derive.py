"""Settings from a box: rules of thumb with their source, and the memory they can take at worst. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dreamseed_cli.database.tuning.box import Box, Storage

KIB, MIB, GIB = 1024, 1024**2, 1024**3
_HASH_MEM_MULTIPLIER = 2.0
"""PostgreSQL's default since 15: a hash may take this many times work_mem."""
_AUTOVACUUM_WORKERS = 3
"""autovacuum_max_workers' default: each may take maintenance_work_mem."""
_PAGE_COST = {Storage.NVME: 1.1, Storage.SSD: 1.1, Storage.HDD: 4.0}
_IO_CONCURRENCY = {Storage.NVME: 200, Storage.SSD: 200, Storage.HDD: 2}


@dataclass(frozen=True, slots=True)
class Derived:
    """One setting. plain: bytes where `is_bytes`, else the number. why: the rule, in a few words."""

    name: str
    plain: float
    is_bytes: bool
    why: str

    @property
    def text(self) -> str:
        """As postgresql.conf has it: whole units, since PostgreSQL takes no broken ones."""
        if not self.is_bytes:
            return f"{self.plain:g}"
        size = int(self.plain)
        for unit, name in ((GIB, "GB"), (MIB, "MB")):
            if size >= unit and size % unit == 0:
                return f"{size // unit}{name}"
        return f"{size // KIB}kB"


def derive(box: Box) -> tuple[Derived, ...]:
    """§E1's settings for this box, in §E1's order.

    A quarter of the memory for shared_buffers, and the cache that the planner may expect, are those of
    PostgreSQL's manual (19.4, 19.7); the rest is told in each one's `why`.
    """
    memory, cores = box.memory_bytes, box.cores
    shared = _round(memory * 0.25)
    maintenance = _round(min(2 * GIB, memory / 16))
    wal = _round(min(8 * GIB, max(1 * GIB, box.disk_free_bytes * 0.1)))
    per_gather = max(1, min(4, cores // 2))
    return (
        _bytes("shared_buffers", shared, "a quarter of the memory"),
        _bytes(
            "effective_cache_size", _round(memory * 0.75), "three quarters: its own and the system's cache"
        ),
        _bytes(
            "maintenance_work_mem",
            maintenance,
            "a sixteenth, 2 GB at most; each autovacuum worker may take it",
        ),
        _number(
            "checkpoint_completion_target", 0.9, "PostgreSQL's default: writes spread between checkpoints"
        ),
        _bytes(
            "wal_buffers",
            min(16 * MIB, max(64 * KIB, _round(shared / 32))),
            "shared_buffers / 32, 16 MB at most",
        ),
        _number("default_statistics_target", 100, "PostgreSQL's default"),
        _number("random_page_cost", _PAGE_COST[box.storage], f"the disk: {box.storage.value}"),
        _number("effective_io_concurrency", _IO_CONCURRENCY[box.storage], f"the disk: {box.storage.value}"),
        _bytes("work_mem", _work_mem(box, shared, maintenance), "what is left, over all connections at once"),
        _bytes("min_wal_size", _round(wal / 4), "a quarter of max_wal_size"),
        _bytes("max_wal_size", wal, "a tenth of the free disk, between 1 and 8 GB"),
        _number("max_worker_processes", max(8, cores), "one a core; 8, the default, at least"),
        _number("max_parallel_workers_per_gather", per_gather, "half the cores, 4 at most"),
        _number("max_parallel_workers", cores, "one a core"),
    )


def worst_case_bytes(values: Mapping[str, float], connections: int) -> int:
    """What these settings can take at once, every connection with one hash of its full size.

    shared_buffers + connections x work_mem x hash_mem_multiplier + autovacuum's workers x
    maintenance_work_mem. A query with several sorts takes more; most take nearly nothing.
    """
    return int(
        values["shared_buffers"]
        + connections * values["work_mem"] * _HASH_MEM_MULTIPLIER
        + _AUTOVACUUM_WORKERS * values["maintenance_work_mem"]
    )


def _work_mem(box: Box, shared: int, maintenance: int) -> int:
    left = box.memory_bytes - shared - _AUTOVACUUM_WORKERS * maintenance
    # 64 kB is the least that PostgreSQL takes; 64 MB (§E1) is plenty for one sort.
    return max(64 * KIB, min(64 * MIB, _round(left / box.connections / _HASH_MEM_MULTIPLIER)))


def _round(size: float) -> int:
    """Down to a figure that a person would write: whole 64 kB, MB, or quarters of a GB."""
    step = GIB // 4 if size >= 2 * GIB else MIB if size >= MIB else 64 * KIB
    return max(step, int(size // step) * step)


def _bytes(name: str, size: int, why: str) -> Derived:
    return Derived(name, size, is_bytes=True, why=why)


def _number(name: str, value: float, why: str) -> Derived:
    return Derived(name, value, is_bytes=False, why=why)
