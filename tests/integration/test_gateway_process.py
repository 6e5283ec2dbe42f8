"""The gateway as a process: its port, its admin interface, its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from gateway_harness import (
    emulated_engine,
    gateway_here,
    gateway_process,
    get_stats,
    put_replicas,
    settings,
    socket_folder,
    target,
    until,
)
from security_harness import Office

from dreamseed_cli.core.errors import ErrorGroup, FailedError, MissingError
from dreamseed_cli.gateway.client import GatewayClient
from dreamseed_cli.gateway.command import gateway_command
from dreamseed_cli.gateway.security.authority import Issued
from dreamseed_cli.gateway.security.channel import ClientSecurity
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.profile.schema import Security


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a test's sockets are."""
    with socket_folder() as path:
        yield path


async def test_a_port_in_use_is_refused(folder: Path) -> None:
    """Two gateways never share a port, and the second says which and why."""
    async with gateway_here(settings(folder)) as first:
        second = GatewayServer(settings(folder, port=first.port))
        with pytest.raises(FailedError, match=f"another process listens on port {first.port}") as caught:
            await second.start()
        assert caught.value.place == f"127.0.0.1:{first.port}"
        await second.stop()


def test_a_process_that_cannot_listen_exits_with_its_errors_code(folder: Path) -> None:
    """A busy port ends the process with code 4 and one clear log line; a public address with code 2."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cases = [
            (settings(folder, port=listener.getsockname()[1]), 4, "another process listens"),
            (settings(folder, host="0.0.0.0"), 2, "loopback only"),  # noqa: S104 - refused
        ]
        for case, code, said in cases:
            (folder / "gateway.json").write_text(case.model_dump_json())
            command = gateway_command(folder / "gateway.json")
            ended = subprocess.run(command.argv, capture_output=True, text=True, timeout=120, check=False)
            assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr
            assert "Traceback" not in ended.stderr


async def test_a_public_address_is_refused_before_anything_listens(folder: Path) -> None:
    """Without TLS only loopback is served."""
    with pytest.raises(ErrorGroup, match="loopback only"):
        GatewayServer(settings(folder, host="192.168.0.9"))


def test_the_admin_interface_sets_replicas_and_tells_the_state(folder: Path) -> None:
    """A whole table is taken, a wrong one refused as a whole; only the owner may open the socket."""
    with emulated_engine(folder, "e0") as engine, gateway_process(folder, settings(folder)) as gateway:
        assert stat.S_IMODE(gateway.admin_socket.stat().st_mode) == 0o600
        good = target("r0", engine.socket).model_dump()
        for wrong in ([{"name": "r0"}], {"r0": good}, [good | {"extra": 1}], [good, good]):
            status, told = asyncio.run(put_replicas(gateway.admin_socket, wrong))
            assert status == 400
            assert told["errors"]
        assert gateway.stats()["replicas"] == []
        status, _ = asyncio.run(put_replicas(gateway.admin_socket, [good]))
        assert status == 200
        asyncio.run(_ask(gateway.address))
        stats = gateway.stats()
    assert stats["simulated"] is True
    assert 1 <= stats["replicas"][0].pop("progress") <= 5  # pieces, of a token or more each
    assert stats["replicas"][0] == {
        "name": "r0",
        "ready": True,
        "outstanding": 0,
        "outstanding_tokens": 0,
        "tokens": 4,
        "moved": 0,
        "continued": 0,
        "cut": 0,
        "finished": 1,
        "failed": 0,
        "refused": 0,
        "cancelled": 0,
        "busy": 0,
    }


def test_a_client_certificate_that_has_expired_opens_no_connection(folder: Path, tmp_path: Path) -> None:
    """One of the same authority that has not is let in, before and after."""
    office = Office(tmp_path)
    security = Security(tls=office.tls(client_ca=True))

    def showing(name: str, issued: Issued) -> ClientSecurity:
        return ClientSecurity(office.ca(), *office.put(name, issued))

    good = showing("good", office.client())
    expired = showing("expired", office.client(days=5, issued_days_ago=6))
    with emulated_engine(folder, "e0") as engine:
        chosen = settings(folder, target("r0", engine.socket), security=security)
        with gateway_process(folder, chosen) as gateway:
            asyncio.run(_ask(gateway.address, good))
            with pytest.raises(MissingError, match="without a client certificate"):
                asyncio.run(_ask(gateway.address, expired))
            asyncio.run(_ask(gateway.address, good))


def test_sigterm_lets_running_calls_finish(folder: Path) -> None:
    """After SIGTERM a call under way gets its whole answer, new ones are refused, and the exit code is 0."""
    with (
        emulated_engine(folder, "e0", step_ms=10) as engine,
        gateway_process(folder, settings(folder, target("r0", engine.socket))) as gateway,
    ):
        asyncio.run(_stop_in_mid_answer(gateway.process, gateway.address))
        assert gateway.process.wait(60) == 0
        assert "Traceback" not in gateway.log.read_text()
        assert not gateway.admin_socket.exists()


async def _stop_in_mid_answer(process: subprocess.Popen[bytes], address: str) -> None:
    async with GatewayClient(address) as client, GatewayClient(address) as late:
        stream = client.ask("Go on", max_tokens=200)
        texts = aiter(stream)
        await anext(texts)
        process.send_signal(signal.SIGTERM)

        async def refused() -> bool:
            try:
                await late.generate("Hi", max_tokens=1)
            except (FailedError, MissingError):
                return True
            return False

        await until(refused)
        async for _ in texts:
            pass
        assert stream.answer.tokens > 50
        assert stream.answer.finish_reason == "stop"


def test_it_outlives_its_parent(folder: Path) -> None:
    """A gateway whose parent was killed goes on serving."""
    with emulated_engine(folder, "e0") as engine:
        given = settings(folder, target("r0", engine.socket))
        config = folder / "gateway.json"
        config.write_text(given.model_dump_json())
        command = gateway_command(config)
        parent_code = (
            "import subprocess, sys, time\n"
            f"child = subprocess.Popen({list(command.argv)!r}, stderr=subprocess.DEVNULL)\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        try:
            asyncio.run(_answers_after(parent, Path(given.admin_socket)))
        finally:
            parent.kill()
            parent.wait()
            parent.stdout.close()
            orphan.terminate()
            orphan.wait(60)


async def _answers_after(parent: subprocess.Popen[str], admin_socket: Path) -> None:
    async def port() -> int:
        try:
            return int((await get_stats(admin_socket))["port"])
        except (aiohttp.ClientError, OSError):
            return 0

    await until(port)
    parent.kill()
    parent.wait()
    await _ask(f"127.0.0.1:{await port()}")


async def _ask(address: str, security: ClientSecurity | None = None) -> None:
    async with GatewayClient(address, security) as client:
        assert (await client.generate("Hi", max_tokens=4)).tokens == 4
