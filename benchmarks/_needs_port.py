"""Takes the port that a file names, as an engine behind TCP does, then becomes the program behind it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path


def main() -> None:
    """`python -m benchmarks._needs_port FILE PROGRAM ...`"""
    port = int(Path(sys.argv[1]).read_text())
    # With an OSError, [Errno 98] Address already in use, this ends as a real server's start does.
    socket.create_server(("127.0.0.1", port), reuse_port=False)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - there is nothing for a shell to do


if __name__ == "__main__":
    main()
