"""A signal is honoured where it is safe, at every moment of a run, and nothing hangs or is left by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from backup_runs import KEYS, PlayedSource, settings, wish

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.attend import attended_run
from dreamseed_cli.backup.catalog import Catalog, read_catalog
from dreamseed_cli.backup.cold import copy_backup
from dreamseed_cli.backup.doors import utc_now
from dreamseed_cli.backup.ending import ends_in_order
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.pipeline import Uploader
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.producer import Producer
from dreamseed_cli.backup.prune import Pruned, plan_pruning, prune
from dreamseed_cli.backup.records import read_record
from dreamseed_cli.backup.retention import Rules
from dreamseed_cli.backup.run import After, run_backup
from dreamseed_cli.backup.source import Produced
from dreamseed_cli.backup.store import retry
from dreamseed_cli.backup.store.base import Reading, Store
from dreamseed_cli.backup.store.local import LocalFolder
from dreamseed_cli.backup.store.open import open_store
from dreamseed_cli.backup.store.steady import SteadyStore
from dreamseed_cli.backup.verify import verify
from dreamseed_cli.core.errors import FailedError


class Stalling(LocalFolder):
    """A local store that, at one of its calls, has us told to end, and then does not answer."""

    def __init__(self, root: Path, at: int | None = None) -> None:
        super().__init__(root)
        self.at = at
        self.calls = 0
        self.left = threading.Event()

    def _reached(self) -> None:
        self.calls += 1
        if self.at == self.calls - 1:
            os.kill(os.getpid(), signal.SIGTERM)
            self.left.wait(600)
            raise OSError

    def write(self, name: str, data: bytes, sha256: str) -> None:
        self._reached()
        super().write(name, data, sha256)

    @contextmanager
    def read(self, name: str) -> Iterator[Reading]:
        self._reached()
        with super().read(name) as reading:
            yield reading

    def versions(self, name: str):  # type: ignore[no-untyped-def]
        self._reached()
        return super().versions(name)

    def page(self, prefix: str, after: str | None):  # type: ignore[no-untyped-def]
        self._reached()
        return super().page(prefix, after)


def told_to_end() -> None:
    """As systemd tells it; it has arrived when this returns."""
    os.kill(os.getpid(), signal.SIGTERM)
    while not ending.told():
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are given up are given no time here."""
    monkeypatch.setattr(retry, "_GRACE_S", 0.01)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Whatever a test does, what it found is there again."""
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def whole_run(backend: LocalFolder, cold: Store) -> None:
    """A backup with all that follows it: retention, the second copy; then it is proven once more."""
    store = SteadyStore(backend)

    def pruning(_catalog: Catalog) -> Pruned:
        return prune(store, plan_pruning(store, Rules(), utc_now()))

    def copying(manifest: Manifest) -> None:
        copy_backup(store, cold, manifest)

    report = run_backup(store, PlayedSource(), wish(), After(pruning, copying))
    assert verify(store, report.manifest, [KEYS.daily], utc_now()).good


@pytest.mark.usefixtures("handlers")
def test_a_signal_at_any_call_of_a_store_that_then_hangs_ends_the_run(tmp_path: Path) -> None:
    """No call is waited out, what is listed as good is good, and the next run works."""
    root = tmp_path / "store"
    store, cold = open_store(f"local:{root}", create=True), open_store(f"local:{tmp_path / 'c'}", create=True)
    counted = Stalling(root)
    whole_run(counted, cold)
    for call in range(counted.calls):
        stalled = Stalling(root, call)
        with pytest.raises(KeyboardInterrupt), ends_in_order():
            whole_run(stalled, cold)
        stalled.left.set()
        assert read_catalog(store).damaged == ()
    whole_run(LocalFolder(root), cold)


@pytest.mark.usefixtures("handlers")
def test_a_program_that_is_waited_for_ends_with_us(tmp_path: Path) -> None:
    """One that does not take SIGTERM, too; and it is an interruption, not the program's failure."""
    mark = tmp_path / "pid"

    class Deaf(PlayedSource):
        def produce(self, uploader: Uploader) -> Produced:
            script = f"trap '' TERM; echo $$ >{mark}; echo up; while :; do sleep 0.05; done"
            with Producer(["sh", "-c", script]) as running:
                assert running.read(3) == b"up\n"
                os.kill(os.getpid(), signal.SIGTERM)
                uploader.stream("played", running)
            raise AssertionError

    host = settings(tmp_path / "home")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ending, "PATIENCE_S", 0.1)
        with pytest.raises(KeyboardInterrupt), ends_in_order():
            attended_run(host, lambda: run_backup(host.open(), Deaf(), wish()), utc_now)
    assert not Path(f"/proc/{mark.read_text().strip()}").exists()
    assert read_record(host.runs).error == "interrupted"


@pytest.mark.usefixtures("handlers")
def test_what_was_done_before_it_could_be_ended_is_done() -> None:
    """A result is not thrown away because a signal came too late for it."""
    with ends_in_order():
        os.kill(os.getpid(), signal.SIGTERM)
        done = "a backup"
    assert done == "a backup"


@pytest.mark.usefixtures("handlers")
def test_an_error_that_comes_of_the_end_is_an_interruption() -> None:
    """Such as a query's that was cancelled. One before it stays what it is."""

    def fails_of_it() -> None:
        told_to_end()
        raise FailedError("the query was cancelled")

    with pytest.raises(FailedError, match="before"), ends_in_order():
        raise FailedError("before")
    with pytest.raises(KeyboardInterrupt) as caught, ends_in_order():
        fails_of_it()
    assert isinstance(caught.value.__cause__, FailedError)


@pytest.mark.usefixtures("handlers")
def test_cleaning_up_is_not_ended() -> None:
    """Store calls, programs and queries go on in there."""
    with ends_in_order():
        told_to_end()
        with pytest.raises(KeyboardInterrupt):
            ending.check()
        with ending.shielded(), Producer(["sh", "-c", "sleep 0.3; echo cleaned"]) as running:
            assert running.read(8) == b"cleaned\n"
        assert ending.told()


_TWICE = """
import sys, time
from dreamseed_cli.backup.ending import ends_in_order
from dreamseed_cli.backup.producer import Producer
with ends_in_order(), Producer(["sleep", "1000"]) as child:
    print(child._process.pid, flush=True)
    while True:  # never looks at the flag
        time.sleep(0.01)
"""


def test_a_second_signal_ends_it_at_once() -> None:
    """Even where nobody looks at the first; its program goes along."""
    with subprocess.Popen([sys.executable, "-c", _TWICE], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        child = int(running.stdout.readline())
        running.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(1)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_drops_what_else_is_under_way() -> None:
    """Threads that wait are ended, what has not begun never does, and the error stays what it is."""
    begun, never = threading.Event(), threading.Event()

    def wait_for_ever() -> None:
        begun.set()
        while True:
            ending.check()
            time.sleep(0.01)

    def fail() -> None:
        assert begun.wait(30)
        raise FailedError("one of them")

    pool = Pool(2, "both")
    waiting, failing = pool.submit(wait_for_ever), pool.submit(fail)
    pool.submit(wait_for_ever)
    dropped = pool.submit(never.set)
    with pytest.raises(FailedError, match="one of them"), pool:
        ending.result(failing)
    assert isinstance(waiting.exception(), KeyboardInterrupt)
    with pytest.raises(CancelledError):
        ending.result(dropped)
    assert not never.is_set()


def test_what_the_threads_wait_for_is_ended_with_them() -> None:
    """Also what a pool within the pool waits for; when it is over, nothing is ended any more."""
    ended: list[bool] = []
    going = threading.Event()

    def inner() -> None:
        forget = ending.on_end(ended.append)
        going.set()
        try:
            while not ended:
                time.sleep(0.01)
        finally:
            forget()

    def outer() -> None:
        with Pool(1, "inner") as pool:
            ending.result(pool.submit(inner))

    pool = Pool(1, "outer")
    pool.submit(outer)
    assert going.wait(30)
    with pytest.raises(FailedError), pool:
        raise FailedError("no more of it")
    assert ended[0] is False
    count = len(ended)
    ending.current().end_waits(hard=True)
    assert len(ended) == count


@pytest.mark.usefixtures("handlers")
def test_other_handlers_are_there_again_afterwards() -> None:
    """Whoever uses this in a larger program finds its own."""
    seen: list[int] = []

    def own(signum: int, _frame: FrameType | None) -> None:
        seen.append(signum)

    before = signal.signal(signal.SIGTERM, own)
    try:
        with ends_in_order():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
