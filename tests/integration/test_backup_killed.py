"""A run that is killed or ended from outside: no backup, no lock left, and the next run makes one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from backup_runs import KEYS, Clock, PlayedSource, settings, wish

from dreamseed_cli.backup.attend import attended_run
from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.records import read_record
from dreamseed_cli.backup.run import run_backup

_RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from backup_runs import PlayedSource, wish
from dreamseed_cli.backup.attend import attended_run
from dreamseed_cli.backup.doors import end_in_order, utc_now
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.settings import Settings
class Slow(PlayedSource):
    def produce(self, uploader):
        uploader.part_bytes = 4
        def chunks():
            yield b"some rows that are stored"
            print("stored", flush=True)
            time.sleep(60)
        uploader.stream("played", chunks())
host = Settings(home=Path(sys.argv[1]))
end_in_order()
attended_run(host, lambda: run_backup(host.open(), Slow(), wish()), utc_now)
"""


def _end(running: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Again and again, as an operator does: an exception that a signal raises in a destructor is lost."""
    for _ in range(15):
        running.send_signal(how)
        try:
            running.wait(2)
        except subprocess.TimeoutExpired:
            continue
        return
    raise AssertionError(f"still running after 15 times {how.name}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_no_backup_and_the_next_one_works(
    how: signal.Signals, tmp_path: Path
) -> None:
    """SIGTERM, systemd's way, is also recorded as a failure."""
    host = settings(tmp_path / "home")
    support = str(Path(__file__).resolve().parents[1] / "support")
    argv = [sys.executable, "-c", _RUN, str(host.home), support]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        running.stdout.readline()
        _end(running, how)
    catalog = read_catalog(host.open())
    assert (catalog.backups, catalog.damaged) == ((), ())
    assert read_record(host.home).last_failed is (how is signal.SIGTERM)
    clock = Clock()
    done = attended_run(host, lambda: run_backup(host.open(), PlayedSource(), wish(clock)), clock.moment)
    assert [entry.id for entry in read_catalog(host.open()).backups] == [done.report.id]
    assert done.report.manifest.recipients == KEYS.recipients
