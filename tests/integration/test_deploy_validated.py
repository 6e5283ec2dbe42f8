"""What is rendered, by the tools that read it: systemd, nftables, logrotate, a shell, PostgreSQL, Valkey."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis
import yaml
from backup_commands import done
from deploy_profiles import deploy_profiles
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from dreamseed_cli.deploy.catalog import TARGETS
from dreamseed_cli.deploy.installed import BEFORE
from dreamseed_cli.deploy.render import render
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.services.postgres import DATABASE, USER, EmbeddedPostgres
from dreamseed_cli.services.postgres import program as postgres_program
from dreamseed_cli.services.root import unprivileged
from dreamseed_cli.services.valkey import program

_BOUND_S = 120.0
Render = Callable[[str | Profile], Path]
_PROFILES = deploy_profiles()
EVERY_PROFILE = pytest.mark.parametrize("profile", _PROFILES.values(), ids=_PROFILES)


@pytest.fixture
def rendered(tmp_path: Path) -> Render:
    """Everything of a profile, or of the shipped one of this name, in a folder of its own."""

    def write(profile: str | Profile) -> Path:
        chosen = load_profile(profile) if isinstance(profile, str) else profile
        return _written(chosen, Path(tempfile.mkdtemp(dir=tmp_path)))

    return write


def _written(profile: Profile, folder: Path) -> Path:
    for one in render(profile, TARGETS):
        path = folder / one.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one.text)
        path.chmod(one.mode)
    return folder


def _run(*argv: str | Path) -> str:
    program_path = shutil.which(str(argv[0]), path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    assert program_path is not None, f"{argv[0]} is missing: make setup installs it"
    words = [program_path, *map(str, argv[1:])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_BOUND_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@EVERY_PROFILE
def test_systemd_takes_the_units(rendered: Render, tmp_path: Path, profile: Profile) -> None:
    """`systemd-analyze verify` says nothing; the program they start is one that is there."""
    there = tmp_path / "dreamseed"
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    units = sorted((rendered(profile) / "systemd").iterdir())
    for unit in units:
        unit.write_text(unit.read_text().replace("/opt/dreamseed/bin/dreamseed", str(there)))
    assert _run("systemd-analyze", "verify", "--man=no", *units) == ""


def test_the_units_are_hardened(rendered: Render) -> None:
    """systemd's own measure, from 0 (closed) to 10 (open): below 4; below 7 where it is root's."""
    for unit in sorted((rendered(_PROFILES["whole"]) / "systemd").glob("*.service")):
        told = _run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
        exposure = float(told.strip().splitlines()[-1].partition(": ")[2].split()[0])
        assert exposure < (4 if "\nUser=" in unit.read_text() else 7), unit.name


@EVERY_PROFILE
def test_nftables_takes_the_firewall(rendered: Render, profile: Profile) -> None:
    """Checked by the kernel, not loaded."""
    _run("nft", "-c", "-f", rendered(profile) / "host/nftables.conf")


@EVERY_PROFILE
def test_postgresql_takes_its_settings(rendered: Render, profile: Profile) -> None:
    """`postgres -C` reads the whole file before it says one of them."""
    folder = rendered(profile) / "postgres"
    assert _setting("max_connections", folder) == str(profile.deploy.database.connections)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("fsync = on", "fsink = on"), ("wal_level = replica", "wal_level = much"), ("'1GB'", "'1GB")],
)
def test_postgresql_refuses_a_broken_file(rendered: Render, right: str, wrong: str) -> None:
    """No such setting, no such value, no end of a text: so that taking ours says something."""
    folder = rendered("laptop") / "postgres"
    path = folder / "postgresql.conf"
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong, 1))
    assert _setting("max_connections", folder) is None


def _setting(name: str, data: Path) -> str | None:
    """None if PostgreSQL objects to the file."""
    argv = unprivileged((str(postgres_program("postgres")), "-C", name, "-D", str(data)))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_BOUND_S, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@EVERY_PROFILE
def test_systemd_sysusers_takes_the_user(rendered: Render, tmp_path: Path, profile: Profile) -> None:
    """In its dry run, on a root of its own."""
    path = rendered(profile) / "host/sysusers.conf"
    _run("systemd-sysusers", "--dry-run", f"--root={tmp_path}", path)


def test_logrotate_takes_its_file(rendered: Render, tmp_path: Path) -> None:
    """In its own dry run. The user of the box is not here, so root stands in."""
    path = rendered("laptop") / "host/logrotate.conf"
    path.write_text(path.read_text().replace("su dreamseed dreamseed", "su root root"))
    path.chmod(0o644)
    assert "error" not in _run("logrotate", "-d", "-s", tmp_path / "state", path).lower()


def test_logrotate_passes_over_what_is_kept_of_a_replaced_file(rendered: Render, tmp_path: Path) -> None:
    """It reads every file of its folder, and refuses a log that two of them name."""
    folder, rules = tmp_path / "logrotate.d", tmp_path / "logrotate.conf"
    folder.mkdir()
    text = (rendered("laptop") / "host/logrotate.conf").read_text()
    for name in ("dreamseed", f"dreamseed{BEFORE}"):
        (folder / name).write_text(text.replace("su dreamseed dreamseed", "su root root"))
    rules.write_text(f"include {folder}\n")
    for path in (*folder.iterdir(), rules):
        path.chmod(0o644)
    assert "error" not in _run("logrotate", "-d", "-s", tmp_path / "state", rules).lower()


def test_logrotate_leaves_alone_what_serve_kept_of_a_log(rendered: Render, tmp_path: Path) -> None:
    """Both would call it NAME.log.1, and one of the two days would be lost."""
    logs, path = tmp_path / "logs", rendered("laptop") / "host/logrotate.conf"
    logs.mkdir()
    (logs / "r0.log").write_text("today\n")
    (logs / "r0.log.1").write_text("kept by serve\n")
    text = path.read_text().replace("/var/lib/dreamseed/logs", str(logs))
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    path.write_text(text.replace("su dreamseed dreamseed", f"su {user} {group}"))
    path.chmod(0o644)
    _run("logrotate", "--force", "-s", tmp_path / "state", path)
    assert (logs / "r0.log.1").read_text() == "kept by serve\n"
    assert [one.read_text() for one in logs.glob("r0.log-*")] == ["today\n"]
    assert (logs / "r0.log").read_text() == ""


def test_the_boxs_command_can_be_read(rendered: Render) -> None:
    """By the shell of a bare Debian."""
    _run("sh", "-n", rendered("laptop") / "host/dreamseed.sh")


@pytest.mark.parametrize("name", ["cloud-gpu/failover.sh", "cloud-sql/standby.sh"])
def test_scripts_can_be_read_and_do_nothing_without_a_word(rendered: Render, name: str) -> None:
    """A shell takes them; without an argument they say how they are used."""
    script = rendered("rtx5090x3") / name
    _run("sh", "-n", script)
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, timeout=_BOUND_S, check=False)
    assert (done.returncode, "usage" in done.stderr) == (2, True)


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL that runs with the rendered files. told: what its archive_command's program was told."""

    socket_dir: Path
    port: int
    told: Path

    def dsn(self, **words: str) -> str:
        """To its socket as the stack's user, unless `words` say otherwise; no password is found in a file."""
        ours = {"host": str(self.socket_dir), "user": USER, "dbname": DATABASE, "passfile": "/dev/null"}
        return make_conninfo("", port=self.port, **(ours | words))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its box's user is this test's, its program one that writes down what it is told."""
    box = tmp_path_factory.mktemp("box")
    folder = _written(_box_of_this_test(box), tmp_path_factory.mktemp("rendered")) / "postgres"
    told = _archiver(box)
    with tempfile.TemporaryDirectory(prefix="ds-dp-") as short, ExitStack() as stack:
        server = EmbeddedPostgres(Path(short) / "data", Path(short))
        subprocess.run(server.initdb(), check=True, capture_output=True, timeout=_BOUND_S)
        _run_single(server.data, f"CREATE DATABASE {DATABASE};\n")
        for one in folder.iterdir():
            target = server.data / one.name
            # Over initdb's own: what the page says to do with conf.d is the same.
            target.write_text(one.read_text())
            shutil.chown(target, server.data.owner(), server.data.group())
        (port,) = _free_ports(1)
        argv = unprivileged(
            (str(postgres_program("postgres")), "-D", str(server.data), "-k", short, "-p", str(port))
        )
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait, _BOUND_S)
        stack.callback(process.send_signal, signal.SIGINT)
        found = Server(Path(short), port, told)
        _until_served(found)
        yield found


def _box_of_this_test(folder: Path) -> Profile:
    """The laptop's, whose user, program and settings are here."""
    # In the user namespace that root's servers run in, everything of root is nobody's.
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    profile = load_profile("laptop")
    places = {"user": user, "install": str(folder / "opt"), "config": str(folder / "etc")}
    host = profile.deploy.host.model_copy(update=places)
    return profile.model_copy(update={"deploy": profile.deploy.model_copy(update={"host": host})})


def _archiver(folder: Path) -> Path:
    """archive.env with a key, and a program in dreamseed's place; returns the file that it writes."""
    told, program_path = folder / "told", folder / "opt/bin/dreamseed"
    (folder / "etc").mkdir()
    (folder / "etc/archive.env").write_text("DREAMSEED_B2_KEY=a-key\n")
    program_path.parent.mkdir(parents=True)
    program_path.write_text(f'#!/bin/sh\necho "$DREAMSEED_B2_KEY $*" >>{told}\n')
    program_path.chmod(0o755)
    return told


def _run_single(data: Path, sql: str) -> None:
    """Without a server: nobody may enter one yet."""
    argv = unprivileged((str(postgres_program("postgres")), "--single", "-D", str(data), "postgres"))
    subprocess.run(argv, input=sql, text=True, check=True, capture_output=True, timeout=_BOUND_S)


def _until_served(server: Server) -> None:
    end = time.monotonic() + _BOUND_S
    while PGconn.ping(server.dsn().encode()) != Ping.OK:
        assert time.monotonic() < end, "PostgreSQL does not start from the rendered files"
        time.sleep(0.1)


def test_a_postgresql_serves_from_the_rendered_files(postgres: Server) -> None:
    """The box's user comes in through the socket; the server has the settings, and objects to no line."""
    wanted = {
        "shared_buffers": "512MB",
        "archive_timeout": "560s",
        "archive_mode": "on",
        "wal_level": "replica",
        "listen_addresses": "localhost",
        "fsync": "on",
        "synchronous_commit": "on",
    }
    with psycopg.connect(postgres.dsn()) as connection:
        shown = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", [list(wanted)]
        )
        assert dict(shown.fetchall()) == wanted
        for view in ("pg_file_settings", "pg_hba_file_rules", "pg_ident_file_mappings"):
            lines = connection.execute(f"SELECT error FROM {view}").fetchall()  # noqa: S608 - ours
            assert lines, view
            assert [error for (error,) in lines if error] == [], view


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"host": "127.0.0.1"}, "no password supplied"),
        ({"host": "127.0.0.1", "password": "wrong"}, "password authentication failed"),
        ({"host": "127.0.0.1", "dbname": "postgres"}, "no pg_hba.conf entry"),
        ({"user": "postgres"}, "[Pp]eer authentication failed"),
    ],
)
def test_nobody_else_comes_in(postgres: Server, words: dict[str, str], reason: str) -> None:
    """Not over TCP without a password or into another database, not as another user."""
    with pytest.raises(psycopg.OperationalError, match=reason):
        psycopg.connect(postgres.dsn(**words)).close()


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("kind", ["physical", "logical"])
def test_its_own_backups_may_read_all_of_it(postgres: Server, tmp_path: Path, kind: str) -> None:
    """They look into every database, the server's own too: the units' role is let in through the socket."""
    done(tmp_path, "backup", "init")
    assert done(tmp_path, "backup", "--kind", kind, dsn=postgres.dsn())["id"]


def test_its_archiver_has_the_keys_of_archive_env(postgres: Server) -> None:
    """PostgreSQL itself runs the rendered archive_command, with the file's variables and a segment's path."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE something (id int)")
        connection.execute("SELECT pg_switch_wal()")
    end = time.monotonic() + _BOUND_S
    while not postgres.told.exists() or not postgres.told.read_text().endswith("\n"):
        assert time.monotonic() < end, "nothing was archived"
        time.sleep(0.1)
    profile = postgres.told.parent / "etc/profile.toml"
    first = postgres.told.read_text().splitlines()[0]
    assert re.fullmatch(rf"a-key wal push --profile {re.escape(str(profile))} pg_wal/[0-9A-F]{{24}}", first)


def test_the_compose_files_valkey_nodes_become_a_cluster(rendered: Render, tmp_path: Path) -> None:
    """Started with the commands that stand there, the cluster's before its nodes, as Compose may do it.

    On free ports; the cluster takes a key, with the password only.
    """
    text = (rendered(_PROFILES["whole"]) / "compose/compose.yaml").read_text()
    secret = tmp_path / "valkey.conf"
    secret.write_text("requirepass a-test-password\nmasterauth a-test-password\n")
    text = text.replace("/run/secrets/valkey.conf", str(secret)).replace("$$", "$")
    ports = _free_ports(3)
    for old, new in zip((7000, 7001, 7002), ports, strict=True):
        text = text.replace(str(old), str(new))
    services = yaml.safe_load(text)["services"]
    tools = {"PATH": f"{program('valkey-cli').parent}:/usr/bin:/bin"}
    command = services["valkey-cluster"]["command"]
    with ExitStack() as stack:
        first = subprocess.Popen(
            command, env=tools, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        stack.callback(first.wait, _BOUND_S)
        stack.callback(first.kill)
        _until_refused(first)
        for number in (1, 2, 3):
            folder = tmp_path / str(number)
            folder.mkdir()
            argv = [str(program("valkey-server")), *services[f"valkey-{number}"]["command"][1:]]
            process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL)
            stack.callback(process.wait, _BOUND_S)
            stack.callback(process.terminate)
        said, _ = first.communicate(timeout=_BOUND_S)
        assert (first.returncode, "All 16384 slots covered" in said) == (0, True), said
        # A second time it finds the cluster and ends.
        done = subprocess.run(
            command, env=tools, capture_output=True, text=True, timeout=_BOUND_S, check=False
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
        with redis.RedisCluster(host="127.0.0.1", port=ports[0], password="a-test-password") as client:
            assert client.set("key", "value")
        with (
            redis.Redis(host="127.0.0.1", port=ports[0]) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.get("key")


def _free_ports(count: int) -> list[int]:
    """Below 30,000: a node's bus has the port 10,000 above its own."""
    with ExitStack() as stack:
        found: list[int] = []
        for port in range(21_000 + os.getpid() % 4000, 30_000):
            one = stack.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")


def _until_refused(command: subprocess.Popen[str]) -> None:
    """Until it has asked a server in vain, and waits."""
    assert command.stdout is not None
    assert "refused" in command.stdout.readline()
