"""Help from elsewhere in the whole stack: called when too few replicas are left, then sent home."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from free_ports import free_port

from benchmarks._fire import all_ready, away, incidents, stack
from dreamseed_cli.gateway.proto import GENERATE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.supervisor.snapshot import StackSnapshot

pytestmark = pytest.mark.usefixtures("untraced_children")
_BOUND_S = 120.0
# The hooks stand for `gcloud compute instances start|stop`: they start and stop the engine elsewhere.
_START = """
import pathlib, subprocess, sys
folder = pathlib.Path(sys.argv[1])
engine = subprocess.Popen([sys.executable, "-m", "dreamseed_cli.engine.emulated", "--config",
                           str(folder / "far.json"), "--host", "127.0.0.1", "--port", sys.argv[2]],
                          start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
(folder / "far.pid").write_text(str(engine.pid))
"""
_STOP = """
import os, pathlib, signal, sys
os.kill(int((pathlib.Path(sys.argv[1]) / "far.pid").read_text()), signal.SIGTERM)
"""


def _failover(folder: Path, port: int) -> str:
    hooks = {"start": (_START, str(folder), str(port)), "stop": (_STOP, str(folder))}
    # JSON's lists of strings are TOML's.
    lines = [f"{name} = {json.dumps([sys.executable, '-c', *words])}" for name, words in hooks.items()]
    return "\n".join(
        [
            "[failover]",
            f'urls = ["http://127.0.0.1:{port}"]',
            'model = "emulated"',
            "below = 0.9",
            "after_s = 0.5",
            "back_after_s = 1.0",
            *lines,
        ]
    )


def _state(wanted: str) -> Callable[[StackSnapshot], bool]:
    def look(snapshot: StackSnapshot) -> bool:
        return snapshot.failover is not None and snapshot.failover.state == wanted

    return look


def _ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}/exe").exists()


async def _ask(address: str) -> GenerateResponse:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(GENERATE, GenerateRequest.SerializeToString, GenerateResponse.FromString)
        answer: GenerateResponse = await call(
            GenerateRequest(prompt="Hi", max_tokens=5, user_id="u"), timeout=30.0
        )
        return answer


async def test_help_from_elsewhere_comes_and_goes(tmp_path: Path) -> None:
    """Too few replicas for a while: the start hook runs, and the engine there answers even with none left
    here. All back for a while: the stop hook runs. An incident tells of it, and what it cost.
    """
    port = free_port()
    far = load_profile("emulated-rtx5090x3").engine.model_copy(update={"served_name": "emulated"})
    (tmp_path / "far.json").write_text(far.model_dump_json())
    away_for_long = "first_backoff_s = 24.0"  # half of it at least, by chance: help is there before
    async with stack(
        tmp_path, replicas=2, supervision=away_for_long, more=_failover(tmp_path, port)
    ) as stand:
        address = str((await stand.until(all_ready, _BOUND_S)).gateway.address)
        stand.kill("r0")
        await stand.until(_state("serving"), _BOUND_S)
        stand.kill("r1")
        await stand.until(away("r1"), _BOUND_S)
        answer = await _ask(address)
        assert answer.replica == "f0"

        await stand.until(all_ready, _BOUND_S)
        home = await stand.until(_state("standby"), _BOUND_S)
        assert home.failover is not None
        assert home.failover.usd_this_month > 0
        assert (await _ask(address)).replica in {"r0", "r1"}
        assert _ended(int((tmp_path / "far.pid").read_text()))
        told = {str(one["subject"]): one["outcome"] for one in incidents(stand.state)}
        assert told == {"r0": "recovered", "r1": "recovered", "failover": "recovered"}
        assert stand.end() == 0
        assert stand.left() == []
