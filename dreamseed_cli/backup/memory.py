"""Memory for large pieces: taken from the system once, used again, and given back when it is done with."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from typing import Final

_HUGE: Final = 2 << 20
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 4 << 20
_KEPT: Final = 8 << 20


def fresh(size: int) -> memoryview:
    """So many writable bytes, all zero. They take room once they are touched, and go with the last view.

    To touch a piece of 16 MiB for the first time, in pages of 4 KiB, takes longer than to decompress it into
    memory that was touched before: so it is worth to use it again. In huge pages it takes a tenth.
    """
    if size < _HUGE:
        return memoryview(bytearray(size))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def keep_little() -> None:
    """From now on let this process give freed pieces of 4 MiB or more back to the system at once, and keep
    8 MiB of smaller ones.

    glibc otherwise learns from the first one to keep such, up to 64 MiB in every thread that ever had some;
    once told of the one limit it learns nothing about the other, and would give back every MiB (mallopt(3)).
    Other C libraries have no such call and no such habit.
    """
    with suppress(AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
