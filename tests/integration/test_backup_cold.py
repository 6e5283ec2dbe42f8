"""The second copy by the commands alone: into moto's S3 in a storage class, and back from there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest
from backup_commands import command, done
from moto.server import ThreadedMotoServer
from real_services import RunningPostgres

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "cold"
KEYS = {"DREAMSEED_S3_KEY_ID": "test", "DREAMSEED_S3_KEY": "hush"}
ROOT = Path(__file__).resolve().parents[2]
TABLE = """
[backup]
cold = "s3:cold/pg"
s3_endpoint = "{endpoint}"
cold_storage_class = "{storage_class}"
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> Iterator[S3Client]:
    """An empty bucket, as another program sees it."""
    client = boto3.session.Session().client(
        *("s3", "us-east-1"), endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_bucket(Bucket=BUCKET)
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    yield client
    client.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_dsn: str) -> Path:
    """A host with keys, and a database with something in it."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT n, md5(n::text) AS text FROM generate_series(1, 500) n")
    done(tmp_path / "home", "backup", "init")
    return tmp_path / "home"


def profile(folder: Path, endpoint: str, storage_class: str) -> str:
    """A profile with a cold store."""
    path = folder / f"{storage_class.lower()}.toml"
    shipped = (ROOT / "profiles" / "laptop.toml").read_text(encoding="utf-8")
    path.write_text(shipped + TABLE.format(endpoint=endpoint, storage_class=storage_class), encoding="utf-8")
    return str(path)


def classes(client: S3Client) -> dict[str, str]:
    """Each object's storage class."""
    listed = client.list_objects_v2(Bucket=BUCKET).get("Contents", ())
    return {entry["Key"]: entry["StorageClass"] for entry in listed}


def restored(home: Path, server: RunningPostgres, dsn: str, *words: str) -> Any:
    """The data of a restore of that database under another name, from the cold store."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    into = ("--database", f"{name}={name}_cold", "--replace", f"{name}_cold")
    return done(home, "restore", *into, "--store", f"s3:{BUCKET}/pg", "--yes", *words, dsn=dsn)


def test_a_cold_copy_comes_back_when_the_first_store_is_lost(
    home: Path,
    bucket: S3Client,
    endpoint: str,
    tmp_path: Path,
    postgres_dsn: str,
    postgres_server: RunningPostgres,
) -> None:
    """Every object has the storage class; the copy is listed, verified, and restored with equal digests."""
    chosen = profile(tmp_path, endpoint, "STANDARD_IA")
    made = done(home, "backup", "--kind", "logical", "-p", chosen, dsn=postgres_dsn)
    assert made["problems"] == []
    kept = classes(bucket)
    assert set(kept.values()) == {"STANDARD_IA"}
    assert f"pg/backups/{made['id']}/manifest.json" in kept
    shutil.rmtree(home / "store")
    cold = ("-p", chosen, "--store", f"s3:{BUCKET}/pg")
    assert [one["id"] for one in done(home, "backup", "list", *cold)["backups"]] == [made["id"]]
    assert done(home, "backup", "verify", *cold)["good"] is True
    assert (
        restored(home, postgres_server, postgres_dsn, "-p", chosen)["proof"] == "restored-and-digests-equal"
    )


def test_what_lies_in_a_glacier_is_asked_back_first(
    home: Path,
    bucket: S3Client,
    endpoint: str,
    tmp_path: Path,
    postgres_dsn: str,
    postgres_server: RunningPostgres,
) -> None:
    """The copy is made without being read; until it was asked back a restore names the way, then it works."""
    chosen = profile(tmp_path, endpoint, "GLACIER")
    done(home, "backup", "--kind", "logical", "-p", chosen, dsn=postgres_dsn)
    assert set(classes(bucket).values()) == {"GLACIER"}
    code, errors = command(home, "restore", "--store", f"s3:{BUCKET}/pg", "-p", chosen)
    assert (code, errors[0]["kind"]) == (4, "object_not_readable")
    assert "restore-object" in errors[0]["remedy"]
    for key in classes(bucket):
        bucket.restore_object(Bucket=BUCKET, Key=key, RestoreRequest={"Days": 1})
    assert (
        restored(home, postgres_server, postgres_dsn, "-p", chosen)["proof"] == "restored-and-digests-equal"
    )


def test_a_cold_store_that_is_away_is_told_beside_the_backup(
    home: Path,
    bucket: S3Client,
    endpoint: str,
    tmp_path: Path,
    postgres_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And one whose key is missing. Exit code 1, the backup exists; the next run copies all that it needs."""
    chosen = profile(tmp_path, endpoint, "STANDARD_IA")
    bucket.delete_bucket(Bucket=BUCKET)
    code, made = command(home, "backup", "--kind", "logical", "-p", chosen, dsn=postgres_dsn)
    assert (code, made["problems"][0]["kind"]) == (1, "store_absent"), made
    assert done(home, "backup", "verify", "-p", chosen)["good"] is True
    with monkeypatch.context() as patched:
        patched.delenv("DREAMSEED_S3_KEY")
        code, keyless = command(home, "backup", "--kind", "logical", "-p", chosen, dsn=postgres_dsn)
    assert (code, keyless["problems"][0]["kind"]) == (1, "missing"), keyless
    bucket.create_bucket(Bucket=BUCKET)
    after = done(home, "backup", "--kind", "logical", "-p", chosen, dsn=postgres_dsn)
    found = done(home, "backup", "list", "-p", chosen, "--store", f"s3:{BUCKET}/pg")["backups"]
    assert [one["id"] for one in found] == [after["id"]]
