"""What is asked: kinds of requests with their lengths, mixes of them, and recorded traces."""

from __future__ import annotations

from dreamseed_cli.bench.workload.files import DEFAULT_MIX, load
from dreamseed_cli.bench.workload.jobs import Workload

__all__ = ["DEFAULT_MIX", "Workload", "load"]
