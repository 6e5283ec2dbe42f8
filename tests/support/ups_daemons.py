"""The real apcupsd and NUT, run by an ordinary user over a UPS that a test makes up."""

from __future__ import annotations

import os
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from free_ports import free_port

DEBIAN = Path(os.environ.get("DREAMSEED_TEST_DEBIAN", Path(sys.prefix) / "debian"))
"""Where `make setup` unpacks Debian's packages of both, which cannot be installed side by side."""
_BOUND_S = 90.0

CALIBRATION, ONLINE, ON_BATTERY, OVERLOAD, LOW, REPLACE, LOST = 0x1, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100
_WORDS = {
    CALIBRATION: "CAL",
    ONLINE: "ONLINE",
    ON_BATTERY: "ONBATT",
    OVERLOAD: "OVERLOAD",
    LOW: "LOWBATT",
    REPLACE: "REPLACEBATT",
    LOST: "COMMLOST",
}


class MadeUpUps:
    """A UPS as NIS tells it. Set its attributes; what it tells is different from the next look on."""

    def __init__(self) -> None:
        self.flags = ONLINE
        self.charge, self.minutes, self.load, self.line_v = 100.0, 20.0, 30.0, 230.0
        self.last_transfer = "Low line voltage"

    def fail_mains(self) -> None:
        self.flags, self.line_v = ON_BATTERY, 0.0

    def restore_mains(self) -> None:
        self.flags, self.line_v = ONLINE, 230.0

    def answer(self) -> bytes:
        """The whole answer to `status`."""
        now = time.strftime("%Y-%m-%d %H:%M:%S %z")
        status = " ".join(word for bit, word in _WORDS.items() if self.flags & bit)
        fields = {
            "DATE": now,
            "HOSTNAME": "test",
            "VERSION": "3.14.14 (31 May 2016) debian",
            "UPSNAME": "test",
            "CABLE": "USB Cable",
            "DRIVER": "USB UPS Driver",
            "UPSMODE": "Stand Alone",
            "STARTTIME": now,
            "MODEL": "made up",
            "STATUS": status,
            "LINEV": f"{self.line_v:.1f} Volts",
            "LOADPCT": f"{self.load:.1f} Percent",
            "BCHARGE": f"{self.charge:.1f} Percent",
            "TIMELEFT": f"{self.minutes:.1f} Minutes",
            "MBATTCHG": "5 Percent",
            "MINTIMEL": "3 Minutes",
            "MAXTIME": "0 Seconds",
            "LASTXFER": self.last_transfer,
            "NUMXFERS": "1",
            "TONBATT": "0 Seconds",
            "CUMONBATT": "0 Seconds",
            "XOFFBATT": "N/A",
            "STATFLAG": f"0x{0x05000000 | self.flags:08X}",
            "NOMPOWER": "865 Watts",
            "END APC": now,
        }
        body = [f"{name:<9}: {value} \n" for name, value in fields.items()]
        first = f"APC      : 001,{len(body) + 1:03d},{sum(map(len, body)):04d}\n"
        return b"".join(struct.pack(">H", len(line)) + line.encode() for line in (first, *body)) + b"\0\0"


class NisServer(socketserver.ThreadingTCPServer):
    """apcupsd's protocol over a made-up UPS. `answer`, if it is set, is sent in place of the UPS's word; then
    the connection is closed. `silent`: it takes connections and says nothing. `drips`: it says the UPS's word
    one byte every tenth of a second.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, ups: MadeUpUps, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Nis)
        self.ups = ups
        self.answer: bytes | None = None
        self.silent = self.drips = False

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Nis(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = cast("NisServer", self.server)
        while len(head := self.request.recv(2)) == 2:
            self.request.recv(struct.unpack(">H", head)[0])
            if server.silent:
                self.request.recv(1)
            elif server.answer is not None:
                self.request.sendall(server.answer)
                return
            elif server.drips:
                self._drip(server.ups.answer())
            else:
                self.request.sendall(server.ups.answer())

    def _drip(self, answer: bytes) -> None:
        with suppress(ConnectionError):  # nobody has to listen to the end
            for byte in answer:
                self.request.sendall(bytes([byte]))
                time.sleep(0.1)


@contextmanager
def nis_server(ups: MadeUpUps, port: int = 0) -> Iterator[NisServer]:
    """Answer for the block's duration."""
    with NisServer(ups, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


_APCUPSD = """## apcupsd.conf v1.1 ##
UPSCABLE ether
UPSTYPE net
DEVICE 127.0.0.1:{upstream}
POLLTIME 1
LOCKFILE {folder}
SCRIPTDIR {folder}
PWRFAILDIR {folder}
NOLOGINDIR {folder}
EVENTSFILE {folder}/events
ONBATTERYDELAY 1
BATTERYLEVEL 5
MINUTES 3
TIMEOUT 0
NETSERVER on
NISIP 127.0.0.1
NISPORT {port}
UPSCLASS standalone
UPSMODE disable
"""


class Apcupsd:
    """The daemon, its port, and what it had its scripts do."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        script = folder / "apccontrol"
        script.write_text(f'#!/bin/sh\necho "$1" >>{folder}/did\n')
        script.chmod(0o700)
        (folder / "conf").write_text(_APCUPSD.format(upstream=upstream, port=self.port, folder=folder))

    def start(self) -> None:
        argv: list[Path | str] = [
            DEBIAN / "sbin/apcupsd",
            "-b",
            "-f",
            self.folder / "conf",
            "-P",
            self.folder / "pid",
        ]
        self._process = start(argv, self.folder / "log")

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)


@contextmanager
def apcupsd(folder: Path, upstream: int) -> Iterator[Apcupsd]:
    """The real daemon, fed by a NIS server at the port `upstream`."""
    daemon = Apcupsd(folder, upstream)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


class Nut:
    """NUT's dummy-ups behind its upsd. `tell` sets what the UPS tells."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._told_at = int(time.time())
        (folder / "ups.conf").write_text(f"[test]\ndriver = dummy-ups\nport = {folder}/test.dev\n")
        (folder / "upsd.conf").write_text(f"LISTEN 127.0.0.1 {self.port}\n")
        (folder / "upsd.users").write_text("")
        for file in folder.iterdir():
            file.chmod(0o600)

    def tell(self, **variables: str) -> None:
        """Variables with `_` for `.`, as in `ups_status="OB"`."""
        lines = [f"{name.replace('_', '.')}: {value}\n" for name, value in variables.items()]
        # The driver reads the file again only if its time differs, in whole seconds.
        self._told_at += 1
        fresh = self._folder / "test.dev.new"
        fresh.write_text("".join(lines))
        os.utime(fresh, (self._told_at, self._told_at))
        fresh.replace(self._folder / "test.dev")

    def start(self) -> None:
        user = ["-u", "root"] if os.geteuid() == 0 else []
        driver: list[Path | str] = [DEBIAN / "lib/nut/dummy-ups", "-D", "-a", "test", *user]
        self._processes.append(self._start(driver))
        until((self._folder / "dummy-ups-test").exists)
        self._processes.append(self._start([DEBIAN / "lib/nut/upsd", "-D", *user]))

    def stop_driver(self) -> None:
        end(self._processes.pop(0))

    def stop(self) -> None:
        for process in self._processes:
            end(process)

    def _start(self, argv: list[Path | str]) -> subprocess.Popen[bytes]:
        places = {"NUT_CONFPATH": str(self._folder), "NUT_STATEPATH": str(self._folder)}
        return start(argv, self._folder / "log", {**places, "NUT_ALTPIDPATH": str(self._folder)})


@contextmanager
def nut(folder: Path) -> Iterator[Nut]:
    """NUT over a dummy UPS on mains."""
    running = Nut(folder)
    running.tell(ups_status="OL", battery_charge="100", battery_runtime="1200")
    try:
        running.start()
        yield running
    finally:
        running.stop()


def start(
    argv: list[Path | str], log: Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """One of their programs, with the libraries that came with it."""
    libraries = f"{DEBIAN}/lib/x86_64-linux-gnu:{DEBIAN}/usr/lib/x86_64-linux-gnu"
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in argv],
            stdout=output,
            stderr=output,
            env={**os.environ, "LD_LIBRARY_PATH": libraries, **(environment or {})},
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL if it does not follow."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool]) -> None:
    """Wait for it, within bounds."""
    deadline = time.monotonic() + _BOUND_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)
