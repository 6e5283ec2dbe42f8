"""The tools that are compared: how each is asked for a backup and a restore of the same server.

Everyone may use two cores and zstd's level 3 where it has it (barman-cloud has not: lz4), starts its
checkpoint at once, and finds its store empty. What a tool checks of itself by default stays on.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from benchmarks._backup_meter import Argv, Cost, stored_bytes
from benchmarks._backup_server import DATABASE, NO_ARCHIVE, Server
from benchmarks._peers import Package, environment, free_port
from dreamseed_cli.profile.load import profile_path
from dreamseed_cli.services.postgres import USER

PGBACKREST = Package("pgbackrest", "2.45-1")
BARMAN = Package("barman", "3.19.1", "[cloud,lz4]")
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
"""Of the S3 server, which runs here and takes any."""
_BACK = "back"
_BUCKET = "barman"
_LEVEL = "3"
_JOBS = "2"
_STANZA = "main"

Commands = Sequence[Argv]


@dataclass(frozen=True)
class Tool:
    """One row. restore: None where nothing was kept.

    prepare, clean: before a turn and after it, not measured. stored: bytes, once it is backed up. restored:
    what it says of its restore beyond the cost.
    """

    name: str
    kind: str
    backup: Callable[[], Commands]
    restore: Callable[[], Commands] | None = None
    prepare: Callable[[], None] = lambda: None
    stored: Callable[[], int | None] = lambda: None
    said: Callable[[Cost], dict[str, Any]] = lambda _: {}
    clean: Callable[[], None] = lambda: None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """A tool's own folder: what it stores, and what it restores to."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def back(self) -> Path:
        return self.folder / "back"

    def make(self) -> None:
        """Empty, with a folder for the store."""
        self.remove()
        self.store.mkdir(parents=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def stored(self) -> int:
        """Bytes."""
        return stored_bytes(self.store)


def ours(kind: str, server: Server, folder: Path, *, digests: bool = True) -> Tool:
    """The commands as people give them: encrypted, hashed, read back; restored, compared and, if physical,
    recovered. digests: of every table, of which no other tool has any (`[backup] digests`).
    """
    place = Place(folder)
    profile = folder.with_suffix(".toml")
    plain = profile_path("laptop").read_text(encoding="utf-8")
    profile.write_text(f"{plain}\n[backup]\ndigests = {str(digests).lower()}\n", encoding="utf-8")
    command = (sys.executable, "-m", "dreamseed_cli")
    given = ("--store", f"local:{place.store}", "--profile", profile)
    env = {"DREAMSEED_BACKUP_DIR": str(place.folder / "home"), "BENCH_DSN": server.dsn()}

    def prepare() -> None:
        place.make()
        argv: list[str | Path] = [*command, "backup", "init", *given, "--json"]
        subprocess.run(argv, check=True, capture_output=True, env=os.environ | env)

    def restore() -> Commands:
        to = ("--into", place.back) if kind == "physical" else _into_new(server)
        return [[*command, "restore", *given, *to, "--yes", "--json"]]

    return Tool(
        name="dreamseed" if digests else "dreamseed, digests = false",
        kind=kind,
        backup=lambda: [[*command, "backup", "--kind", kind, *given, *_FROM, "--json"]],
        restore=restore,
        prepare=prepare,
        stored=place.stored,
        said=_phases,
        clean=lambda: _forget(server, place),
        env=env,
    )


_FROM = ("--dsn-env", "BENCH_DSN")


def _into_new(server: Server) -> tuple[str, ...]:
    return ("--database", f"{DATABASE}={_BACK}", *_FROM)


def _phases(cost: Cost) -> dict[str, Any]:
    """Where the time of a physical restore went. files_s: until all files lie there, compared."""
    data = json.loads(cost.output)["data"]
    if "recover_s" not in data:
        return {}
    steps = {name: data[name] for name in ("unpack_s", "verify_s", "recover_s")}
    return {**steps, "files_s": cost.wall_s - data["recover_s"]}


def _forget(server: Server, place: Place) -> None:
    server.run("dropdb", "--if-exists", "--force", _BACK)
    place.remove()


def base_backup_to_nowhere(server: Server) -> Tool:
    """The server's own copy, thrown away: what everyone who takes it from the server starts from."""
    argv = [str(server.programs / "pg_basebackup"), "-D", "-", "-Ft", "-X", "fetch", "-c", "fast"]
    return Tool(
        name="pg_basebackup to nowhere",
        kind="physical",
        backup=lambda: [["sh", "-c", 'exec "$@" > /dev/null', "sh", *argv]],
        env=server.environment("postgres"),
    )


def base_backup(server: Server, folder: Path) -> Tool:
    """The server's own copy, compressed by the client; restored by tar, synced and verified."""
    place = Place(folder)
    compressed = ("-Ft", "-X", "fetch", "-c", "fast", f"--compress=client-zstd:{_LEVEL}")

    def restore() -> Commands:
        place.back.mkdir(mode=0o700)
        return [
            ["tar", "-I", "zstd -d", "-xf", place.store / "base.tar.zst", "-C", place.back],
            ["sync", "-f", place.back],
            [server.programs / "pg_verifybackup", "-m", place.store / "backup_manifest", place.back],
        ]

    return Tool(
        name="pg_basebackup, client zstd",
        kind="physical",
        backup=lambda: [[server.programs / "pg_basebackup", "-D", place.store, *compressed]],
        restore=restore,
        prepare=place.make,
        stored=place.stored,
        clean=place.remove,
        env=server.environment("postgres") | _path(server),
    )


def _path(server: Server) -> dict[str, str]:
    return {"PATH": f"{server.programs}:{os.environ['PATH']}"}


def dump(server: Server, folder: Path) -> Tool:
    """pg_dump's directory, two jobs, then zstd on a tar of it; back by pg_restore with two jobs."""
    place = Place(folder)
    archive, plain = place.store / "dump.tar.zst", place.folder / "dump"
    jobs = ("--jobs", _JOBS)

    def back() -> Commands:
        server.run("createdb", "--template=template0", _BACK)
        plain.mkdir()
        return [
            ["tar", "-I", "zstd -d", "-xf", archive, "-C", plain],
            [server.programs / "pg_restore", *jobs, "--exit-on-error", f"--dbname={_BACK}", plain],
        ]

    return Tool(
        name="pg_dump -Fd -j2, then zstd",
        kind="logical",
        backup=lambda: [
            [server.programs / "pg_dump", "-Fd", "-Z0", *jobs, f"--file={plain}", DATABASE],
            ["tar", "-I", f"zstd -{_LEVEL} -T{_JOBS}", "-C", plain, "-cf", archive, "."],
            ["rm", "-r", plain],
        ],
        restore=back,
        prepare=place.make,
        stored=place.stored,
        clean=lambda: _forget(server, place),
        env=server.environment(),
    )


def pgbackrest(server: Server, folder: Path, peers: Path, *, encrypted: bool) -> Tool:
    """Two processes, zstd, its own store on this disk, WAL archived by it."""
    place = Place(folder)
    config = place.folder / "pgbackrest.conf"
    command = (_pgbackrest(peers), f"--config={config}", f"--stanza={_STANZA}")
    options = {
        "repo1-path": place.store,
        "repo1-bundle": "y",
        "pg1-path": server.data,
        "pg1-socket-path": server.folder,
        "pg1-user": USER,
        "pg1-database": "postgres",
        "lock-path": place.folder / "lock",
        "log-level-file": "off",
        "process-max": _JOBS,
        "compress-type": "zst",
        "compress-level": _LEVEL,
        "start-fast": "y",
    }
    if encrypted:
        options |= {"repo1-cipher-type": "aes-256-cbc", "repo1-cipher-pass": secrets.token_hex(32)}

    def prepare() -> None:
        place.make()
        lines = [f"[{_STANZA}]", *(f"{name}={value}" for name, value in options.items())]
        config.write_text("\n".join(lines) + "\n")
        subprocess.run([*command, "stanza-create"], check=True, capture_output=True)
        server.archive_by(f"{shlex.join(map(str, command))} archive-push %p")

    def restore() -> Commands:
        place.back.mkdir(mode=0o700)
        return [[*command, f"--pg1-path={place.back}", "--type=immediate", "restore"]]

    def clean() -> None:
        server.archive_by(NO_ARCHIVE)
        place.remove()

    return Tool(
        name=f"pgbackrest{', encrypted' if encrypted else ''}",
        kind="physical",
        backup=lambda: [[*command, "--type=full", "backup"]],
        restore=restore,
        prepare=prepare,
        stored=lambda: stored_bytes(place.store / "backup"),
        clean=clean,
    )


def _pgbackrest(peers: Path) -> Path:
    """The program of Debian's package, unpacked and not installed. CalledProcessError if it cannot be had."""
    place = peers / f"{PGBACKREST.name}-{PGBACKREST.version}"
    program = place / "usr" / "bin" / PGBACKREST.name
    if not program.exists():
        place.mkdir(parents=True, exist_ok=True)
        wanted = f"{PGBACKREST.name}={PGBACKREST.version}"
        subprocess.run(["apt-get", "download", "-qq", wanted], check=True, cwd=place)
        (package,) = place.glob("*.deb")
        subprocess.run(["dpkg", "-x", package, place], check=True)
    return program


def barman(server: Server, folder: Path, peers: Path, endpoint: str) -> Tool:
    """Two uploading processes and lz4 to an S3 server on this machine, WAL archived by it."""
    place = Place(folder)
    programs = environment(peers, BARMAN)
    where = ("--endpoint-url", endpoint)
    address = (f"s3://{_BUCKET}", "main")
    bucket = boto3.session.Session(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]).resource(
        "s3", region_name=KEYS["AWS_DEFAULT_REGION"], endpoint_url=endpoint
    )

    def prepare() -> None:
        place.make()
        bucket.create_bucket(Bucket=_BUCKET)
        push = shlex.join([str(programs / "barman-cloud-wal-archive"), *where, *address])
        server.archive_by(f"{push} %p")

    def clean() -> None:
        server.archive_by(NO_ARCHIVE)
        bucket.Bucket(_BUCKET).objects.all().delete()
        place.remove()

    def stored() -> int:
        return sum(found.size for found in bucket.Bucket(_BUCKET).objects.filter(Prefix="main/base/"))

    how = ("--lz4", "--jobs", _JOBS, "--immediate-checkpoint", "--name", "bench")
    who = ("--host", str(server.folder), "--user", USER)
    return Tool(
        name="barman-cloud",
        kind="physical",
        backup=lambda: [[programs / "barman-cloud-backup", *where, *how, *who, *address]],
        restore=lambda: [[programs / "barman-cloud-restore", *where, *address, "bench", place.back]],
        prepare=prepare,
        stored=stored,
        clean=clean,
        env=KEYS,
    )


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """moto's S3 server, which keeps everything in memory: its address."""
    port = free_port()
    argv = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
