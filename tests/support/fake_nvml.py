"""The fake NVML: compiled once, loaded by the real bindings in the real child, steered by a text file."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("fake_nvml.c")


@functools.cache
def library_folder() -> Path:
    """A folder with `libnvidia-ml.so.1`, for LD_LIBRARY_PATH; removed when the tests end."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the fake NVML is written in C: install gcc and libc6-dev, or run make setup"
    folder = Path(tempfile.mkdtemp(prefix="ds-nvml-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(target), str(_SOURCE)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder


class FakeNvml:
    """The cards that the fake NVML shows. Keys are those told at the head of fake_nvml.c."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "nvml.txt"
        self._values: dict[str, str] = {}
        self.set()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to load the fake and to find the file that steers it."""
        return {"LD_LIBRARY_PATH": str(library_folder()), "DREAMSEED_FAKE_NVML": str(self._path)}

    def set(self, **values: object) -> None:
        """Change what is told. A card's own key is written `c0_used`."""
        for name, value in values.items():
            key = f"{name[1]}.{name[3:]}" if name[0] == "c" and name[1].isdigit() else name
            self._values[key] = str(value)
        whole = self._path.with_suffix(".new")
        whole.write_text("".join(f"{key} {value}\n" for key, value in self._values.items()))
        # At once: it is read at any moment.
        whole.replace(self._path)

    def xid(self, card: int, code: int) -> None:
        """Have a card report an Xid."""
        number = int(self._values.get(f"{card}.xid_number", "0")) + 1
        self.set(**{f"c{card}_xid": code, f"c{card}_xid_number": number})
