"""How long the HTTP front takes from its launch to its first answer, as on Cloud Run's cold start.

In turns with the least that could be started in its place: FastAPI with one route under uvicorn. Files are
in the page cache and compiled, as the image's are; a container's own start and a cold disk come on top.
Run it from the repository root: `python -m benchmarks.api_cold_start`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.gateway_overhead import device, rounded
from benchmarks.priorities import quantiles

RESULT = Path(__file__).parent / "results" / "api_cold_start.json"
ROUNDS = 15
_BARE = """
import sys, fastapi, uvicorn
app = fastapi.FastAPI()
app.get("/healthz")(lambda: {})
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def start_s(argv: list[str], port: int) -> float:
    """Seconds from the launch to the first 200 of /healthz."""
    # A gateway that nobody runs: being alive must not need one.
    env = {**os.environ, "PORT": str(port), "GPU_ENDPOINT": "127.0.0.1:1", "HOST": "127.0.0.1"}
    start = time.perf_counter()
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                    assert answer.status == 200
                    return time.perf_counter() - start
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.005)
        raise RuntimeError(f"{argv} ended with code {process.returncode}")
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Run it, print and write the result."""
    front = [sys.executable, "-m", "dreamseed_cli", "api", "--allow-anonymous"]
    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(start_s(front, free_port()))
        port = free_port()
        bare.append(start_s([sys.executable, "-c", _BARE, str(port)], port))
    found = rounded(
        {
            "benchmark": "api_cold_start",
            "device": device(),
            "provenance": "measured",
            "front_s": quantiles(ours),
            "bare_fastapi_s": quantiles(bare),
            "ratio_p50": quantiles(ours)["p50"] / quantiles(bare)["p50"],
        }
    )
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
