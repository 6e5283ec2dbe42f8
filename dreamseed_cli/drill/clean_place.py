"""A machine that holds nothing: an empty home, a key file, and the way to the bucket."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.keys import PASSPHRASE_VARIABLE
from dreamseed_cli.backup.store.open import HELD_VARIABLE
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.processes import ProcessIdentity, end_all
from dreamseed_cli.drill.bringing import initdb
from dreamseed_cli.drill.cluster import Build, running
from dreamseed_cli.drill.held import Held
from dreamseed_cli.drill.hidden import Hidden, hidden
from dreamseed_cli.drill.stage import Stage

_GRACE_S: Final = 30.0
_CREDENTIALS: Final = {
    "b2": ("DREAMSEED_B2_KEY_ID", "DREAMSEED_B2_KEY"),
    "s3": ("DREAMSEED_S3_KEY_ID", "DREAMSEED_S3_KEY"),
}
_DSN: Final = "DREAMSEED_DRILL_TARGET"


@dataclass(frozen=True, slots=True)
class CleanPlace:
    """An empty home with a key file in it. given: what a process there has, for people. hidden: what it does
    not find, though it is on this host.
    """

    stage: Stage
    home: Path
    environment: dict[str, str]
    words: tuple[str, ...]
    given: tuple[str, ...]
    hidden: Hidden

    @classmethod
    def make(cls, stage: Stage, held: Held) -> CleanPlace:
        """Only what a person could carry to another machine goes in, and held: what the store has for it."""
        wish, table = stage.wish, stage.wish.settings.table
        home = stage.scratch / "clean" / "home"
        home.mkdir(mode=0o700, parents=True)
        key = home / "offline-key.txt"
        key.touch(mode=0o600)
        key.write_bytes(wish.key_file.read_bytes())
        url = wish.settings.store_url
        environment, given = _environment(home, url), ["the key", f"the store's address ({url})"]
        names = _CREDENTIALS.get(url.partition(":")[0], ())
        given += [f"${name}" for name in names]
        held.write(home / "held")
        environment[HELD_VARIABLE] = str(home / "held")
        passphrase = wish.settings.passphrase()
        if passphrase is not None:
            environment[PASSPHRASE_VARIABLE] = passphrase
            given.append("the key's passphrase")
        words = ["--store", url, "--key-file", str(key)]
        if wish.profile_file is not None and (table.s3_endpoint or table.b2_realm != "production"):
            profile = home / "profile.toml"
            shutil.copy2(wish.profile_file, profile)
            words += ["--profile", str(profile)]
            given.append("the profile, which names the store's server")
        out_of_sight = hidden(wish, stage.scratch)
        return cls(stage, home, environment, tuple(words), tuple(given), out_of_sight)

    def physical(self, data: Path) -> dict[str, Any]:
        """`dreamseed restore --into`; its data."""
        return self._restore("--into", str(data))

    def logical(self, data: Path, build: Build) -> dict[str, Any]:
        """`dreamseed restore` into a new server; its data."""
        initdb(data, build)
        with running(data, build) as server:
            self.environment[_DSN] = server.dsn("template1")
            return self._restore("--dsn-env", _DSN, "--replace", "postgres")

    def _restore(self, *to: str) -> dict[str, Any]:
        argv = [sys.executable, "-m", "dreamseed_cli", "restore", *to, "--yes", *self.words, "--json"]
        with _process(self.hidden.wrap(argv), self.environment, self.home) as child:
            for line in child.stderr or ():
                self.stage.say(line.rstrip())
            out = child.stdout.read() if child.stdout else ""
            code = child.wait()
        ending.check()
        try:
            envelope = json.loads(out)
        except ValueError as error:
            raise FailedError(f"it ended with code {code} and no answer", place="restore") from error
        if code != 0:
            first = envelope["errors"][0]
            raise FailedError(first["cause"], place=f"restore: {first['place']}", remedy=first["remedy"])
        data: dict[str, Any] = envelope["data"]
        return data


def _environment(home: Path, url: str) -> dict[str, str]:
    """Nothing is inherited but what finds programs, and the keys to the bucket."""
    kept = ("PATH", "PYTHONPATH", "LANG", "TMPDIR", *_CREDENTIALS.get(url.partition(":")[0], ()))
    return {"HOME": str(home)} | {name: os.environ[name] for name in kept if name in os.environ}


@contextmanager
def _process(argv: list[str], environment: dict[str, str], home: Path) -> Iterator[subprocess.Popen[str]]:
    """Run it; whatever happens here, it and its children are ended."""
    child = subprocess.Popen(
        argv,
        env=environment,
        cwd=home,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )

    def end(hard: bool) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL if hard else signal.SIGINT)

    forget = ending.on_end(end)
    try:
        yield child
    finally:
        forget()
        identity = ProcessIdentity.of(child.pid)
        if child.poll() is None and identity is not None:
            end_all(identity.family(), grace_s=_GRACE_S, ask=signal.SIGINT)
        child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
