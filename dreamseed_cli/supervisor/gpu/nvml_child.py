"""The killable process that talks to NVML: `python -m dreamseed_cli.supervisor.gpu.nvml_child`.

It speaks JSON, one document a line. Each line on stdin asks for one poll; the first one says which cards to
leave alone: `{"uuids": [UUID, ...], "indices": [INDEX, ...], "of": COUNT}`. On stdout: `{"hello": true}`
before NVML is touched, `{"card": INDEX, "uuid": UUID}` before each card is, `{"poll": {...}}` as the answer,
and `{"xid": {...}}` whenever NVML reports one. It ends with stdin, or with whoever started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from typing import Any

from dreamseed_cli.supervisor.gpu.nvml_reader import Handle, Unavailable, XidEvents, connect, read
from dreamseed_cli.supervisor.gpu.reading import Skip

_WAIT_MS = 1000
_PR_SET_PDEATHSIG = 1
_written = threading.Lock()


def main() -> None:
    """Answer requests until stdin ends."""
    _end_with_parent()
    _say({"hello": True})
    handles: list[Handle] | None = None
    for line in sys.stdin:
        try:
            if handles is None:
                handles = connect(_skip(json.loads(line)), _at_card)
                _listen_to(handles)
            poll = read(handles, _at_card)
        except Unavailable as unavailable:
            poll = unavailable.poll
        _say({"poll": asdict(poll)})
    # The thread that listens must not be in the middle of a line when the interpreter ends.
    _written.acquire()


def _skip(document: dict[str, Any]) -> Skip:
    return Skip(frozenset(document["uuids"]), frozenset(document["indices"]), document["of"])


def _end_with_parent() -> None:
    """A process that hangs in NVML does not see stdin end: let the kernel kill it with its parent."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(0)


def _listen_to(handles: list[Handle]) -> None:
    """Have Xids reported from before the first answer on. Without them polls go on."""
    try:
        events = XidEvents(handles, _at_card)
    except Exception as error:  # noqa: BLE001 - whatever this driver lacks, figures can be read
        _no_events(error)
        return
    if events:
        threading.Thread(target=_listen, args=(events,), daemon=True).start()


def _listen(events: XidEvents) -> None:
    try:
        while True:
            event = events.wait(_WAIT_MS)
            if event is not None:
                _say({"xid": asdict(event)})
    except Exception as error:  # noqa: BLE001 - a thread has nobody to tell
        _no_events(error)


def _no_events(error: Exception) -> None:
    sys.stderr.write(f"no more Xid events: {type(error).__name__}: {error}\n")


def _at_card(index: int, uuid: str) -> None:
    _say({"card": index, "uuid": uuid})


def _say(document: dict[str, Any]) -> None:
    with _written:
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
