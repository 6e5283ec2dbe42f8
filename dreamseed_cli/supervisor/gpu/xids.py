"""What the driver's Xid errors mean for an engine on the card.

Source: NVIDIA, "Xid Errors", chapter "Analyzing Xid Errors with the Xid Catalog", column "Resolution
Bucket (Immediate Action)", https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html. IGNORE is
NOTE here, RESTART_APP is APP, RESET_GPU and the workflows that end in a reset are RESET, RESTART_BM is
REBOOT. NVLink 5 and confidential-computing Xids of machines that are not ours are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """What an Xid asks for."""

    ECHO = "echo"
    """Nothing: it follows from another error, or from a program's end."""
    NOTE = "note"
    """Nothing now, but an operator should know."""
    APP = "app"
    """The program restarted: the card is sound. An engine that it hit ends or hangs, and that is seen."""
    RESET = "reset"
    """The card is at fault: the ladder begins."""
    REBOOT = "reboot"
    """Nothing short of a restart of the machine helps."""


@dataclass(frozen=True, slots=True)
class Xid:
    """One Xid and its meaning."""

    code: int
    severity: Severity
    meaning: str

    def __str__(self) -> str:
        return f"Xid {self.code} ({self.meaning})"


_ENTRIES = (
    Xid(8, Severity.APP, "the GPU stopped processing"),
    Xid(11, Severity.APP, "invalid or corrupted push buffer stream"),
    Xid(13, Severity.APP, "graphics engine exception: mostly an access past the end of an array"),
    Xid(25, Severity.APP, "invalid or illegal push buffer stream"),
    Xid(31, Severity.APP, "GPU memory page fault: mostly an illegal address"),
    Xid(32, Severity.APP, "invalid or corrupted push buffer stream"),
    Xid(39, Severity.APP, "copy engine exception"),
    Xid(40, Severity.APP, "copy engine exception"),
    Xid(41, Severity.APP, "copy engine exception"),
    Xid(43, Severity.APP, "the program hit a fault of its own and must end; the GPU stays healthy"),
    Xid(45, Severity.ECHO, "the driver cleaned up after a program that ended or was killed"),
    Xid(46, Severity.RESET, "the GPU stopped processing"),
    Xid(48, Severity.RESET, "double-bit ECC error"),
    Xid(62, Severity.RESET, "internal microcontroller halt"),
    Xid(63, Severity.NOTE, "a row of memory will be remapped at the next reset"),
    Xid(64, Severity.RESET, "remapping a row of memory failed"),
    Xid(68, Severity.APP, "video decoder exception"),
    Xid(69, Severity.APP, "graphics engine class error"),
    Xid(74, Severity.RESET, "NVLink error"),
    Xid(79, Severity.REBOOT, "the GPU has fallen off the bus"),
    Xid(92, Severity.NOTE, "high rate of single-bit ECC errors"),
    Xid(94, Severity.APP, "contained memory error: only the program that met it is affected"),
    Xid(95, Severity.RESET, "uncontained memory error"),
    Xid(109, Severity.RESET, "context switch timeout"),
    Xid(110, Severity.RESET, "security fault"),
    Xid(119, Severity.RESET, "the GPU's firmware (GSP) did not answer in time"),
    Xid(120, Severity.RESET, "error in the GPU's firmware (GSP)"),
    Xid(136, Severity.RESET, "link training failed"),
    Xid(140, Severity.RESET, "unrecovered ECC error"),
    Xid(143, Severity.RESET, "GPU initialisation error"),
    Xid(154, Severity.NOTE, "the recovery action that NVML recommends has changed"),
    Xid(156, Severity.RESET, "a resource of the GPU is retired at the next reset"),
    Xid(157, Severity.NOTE, "retiring a resource of the GPU failed"),
    Xid(158, Severity.RESET, "fatal timeout of the GPU"),
)
_BY_CODE: Mapping[int, Xid] = {entry.code: entry for entry in _ENTRIES}


def xid(code: int) -> Xid:
    """What an Xid means. One we do not know is no fault by itself: the engine's own watchdog decides."""
    return _BY_CODE.get(code) or Xid(code, Severity.APP, "not in our table: see NVIDIA's Xid catalogue")
