"""`python -m dreamseed_cli.bench.locust_users`: a process of the load, started by `crew`."""

# ruff: noqa: I001 - Locust must make sockets cooperative before anything else imports them
import locust  # noqa: F401

import sys
from pathlib import Path

import msgspec

from dreamseed_cli.bench.locust_users.master import lead
from dreamseed_cli.bench.locust_users.plan import Errand
from dreamseed_cli.bench.locust_users.worker import work


def main(arguments: list[str]) -> int:
    """`master ERRAND`, or `worker ERRAND INDEX PORT`."""
    role, file, *rest = arguments
    errand = msgspec.json.decode(Path(file).read_bytes(), type=Errand)
    if role == "master":
        return lead(errand)
    work(errand, int(rest[0]), int(rest[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
