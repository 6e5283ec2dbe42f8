"""What still lives though nobody needs it: objects in a circle, which only the garbage collector can free."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collector() -> Iterator[None]:
    """Without it, an object ends with its last reference, or not at all."""
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def living(*kinds: type) -> list[str]:
    """The names of these classes, once for each of their objects that was made since it went."""
    return [type(one).__name__ for one in gc.get_objects() if type(one) in kinds]
