"""What all that writes files leans on."""

from __future__ import annotations

import io
import random
from typing import IO, cast

from dreamseed_cli.backup.store.files import write_all

DATA = random.Random(1).randbytes((3 << 20) + 5)  # noqa: S311


class Short(io.BytesIO):
    """Takes less than it is given, as a raw file at a signal or on a disk that is nearly full."""

    most = 0

    def write(self, data: object, /) -> int:
        view = cast("memoryview", data)
        self.most = max(self.most, len(view))
        return super().write(view[:300_000])


def test_everything_is_written_however_little_is_taken_at_a_time() -> None:
    """And never in one piece that the kernel takes long for."""
    for data in (DATA, memoryview(DATA), b""):
        file = Short()
        write_all(cast("IO[bytes]", file), data)
        assert file.getvalue() == bytes(data)
        assert file.most <= 1 << 20
