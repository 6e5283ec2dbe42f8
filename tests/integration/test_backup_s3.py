"""The cold copy in an S3-compatible bucket: boto3 over real HTTP to moto's server, and to one that fails."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.paginate import PageIterator
from flipped import flipped
from moto.server import ThreadedMotoServer

from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import (
    ClockSkewed,
    NotAStore,
    ObjectConflict,
    ObjectCorrupt,
    ObjectLocked,
    ObjectMissing,
    ObjectNotReadable,
    StoreAbsent,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)
from dreamseed_cli.backup.store.open import StoreSettings, open_store

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

LIMITS = Limits(connect_s=2, call_s=5, total_s=20, tries=3, first_wait_s=0.001, most_wait_s=0.01)
KEYS = {"DREAMSEED_S3_KEY_ID": "test", "DREAMSEED_S3_KEY": "hush"}
DATA = os.urandom(200_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
NAME = "backups/x/part_0001"
NO_DATE = "<ListBucketResult><Contents><LastModified>never</LastModified></Contents></ListBucketResult>"
BUCKET = "cold"
Opener = Callable[..., Store]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def other_program(endpoint: str) -> Iterator["S3Client"]:
    """A client of another program's."""
    made = boto3.session.Session().client(
        *("s3", "us-east-1"), endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )
    made.create_bucket(Bucket=BUCKET)
    yield made
    made.close()


@pytest.fixture
def client(other_program: "S3Client") -> "S3Client":
    """What another program does in the bucket, which is empty at first."""
    for entry in other_program.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        other_program.delete_object(Bucket=BUCKET, Key=entry["Key"])
    return other_program


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens stores at an endpoint; they are closed at the end."""
    stores: list[Store] = []

    def open_one(
        at: str, path: str = f"{BUCKET}/pg", storage_class: str = "STANDARD", limits: Limits = LIMITS
    ) -> Store:
        settings = StoreSettings(limits=limits, s3_endpoint=at, s3_storage_class=storage_class)
        stores.append(open_store(f"s3:{path}", settings, environment=KEYS))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opener, endpoint: str, client: "S3Client") -> Store:
    """In the empty bucket, below a prefix."""
    return opened(endpoint)


def test_put_get_list_and_delete(store: Store, client: "S3Client", tmp_path: Path) -> None:
    """An object goes up with its hash, is read back, comes down hashed, and goes."""
    stored = store.put(NAME, DATA)
    assert (stored.size, stored.sha256, stored.proof) == (len(DATA), SHA256, "read_back")
    assert client.head_object(Bucket=BUCKET, Key=f"pg/{NAME}")["Metadata"] == {"sha256": SHA256}
    assert store.get(NAME) == DATA
    store.fetch(NAME, tmp_path / "part", SHA256)
    assert (tmp_path / "part").read_bytes() == DATA
    found = store.stat(NAME)
    assert found is not None
    assert found.sha256 == SHA256
    assert [(one.name, one.size) for one in store.list("backups/")] == [(NAME, len(DATA))]
    store.delete(NAME)
    store.delete(NAME)
    assert store.stat(NAME) is None
    with pytest.raises(ObjectMissing):
        store.get(NAME)


def test_a_list_of_several_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every object of every page, once."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    names = [f"wal/{number}" for number in range(5)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: store.put(name, name.encode()), names))
    assert [one.name for one in store.list("wal/")] == names


def test_the_same_again_and_other_bytes(store: Store) -> None:
    """The same is fine, other bytes are a conflict and change nothing."""
    store.put(NAME, DATA)
    assert store.put(NAME, DATA).proof == "read_back"
    for other in (DATA[:-1], flipped(DATA)):
        with pytest.raises(ObjectConflict):
            store.put(NAME, other)
    assert store.get(NAME) == DATA


def test_rivals_with_other_bytes(store: Store) -> None:
    """If-None-Match: of many at once, one wins and all others are told."""
    start = threading.Barrier(6)

    def put(number: int) -> bool:
        start.wait()
        try:
            store.put(NAME, bytes([number]) * 1000)
        except ObjectConflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(put, range(6)))
    assert won.count(True) == 1
    assert store.get(NAME) == bytes([won.index(True)]) * 1000


def test_a_flipped_bit_in_the_bucket(store: Store, client: "S3Client") -> None:
    """Found by get, from the hash that is kept with it, and by putting the same again."""
    store.put(NAME, DATA)
    client.put_object(Bucket=BUCKET, Key=f"pg/{NAME}", Body=flipped(DATA), Metadata={"sha256": SHA256})
    with pytest.raises(ObjectCorrupt):
        store.get(NAME)
    with pytest.raises(ObjectCorrupt):
        store.put(NAME, DATA)


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_cold_storage(opened: Opener, endpoint: str, client: "S3Client", storage_class: str) -> None:
    """What cannot be read back is proven by the server's own SHA-256, and said so; a get names the way."""
    store = opened(endpoint, storage_class=storage_class)
    assert store.put(NAME, DATA).proof == "server_checksum"
    assert client.head_object(Bucket=BUCKET, Key=f"pg/{NAME}")["StorageClass"] == storage_class
    assert store.put(NAME, DATA).proof == "server_checksum"
    with pytest.raises(ObjectNotReadable, match="restore-object"):
        store.get(NAME)
    with pytest.raises(ObjectConflict):
        store.put(NAME, b"other")


def test_cold_storage_without_a_checksum(opened: Opener, endpoint: str, client: "S3Client") -> None:
    """What nobody can vouch for does not count as stored."""
    key = f"pg/{NAME}"
    client.put_object(Bucket=BUCKET, Key=key, Body=DATA, Metadata={"sha256": SHA256}, StorageClass="GLACIER")
    with pytest.raises(StoreError, match="no SHA-256"):
        opened(endpoint, storage_class="GLACIER").put(NAME, DATA)


def test_a_class_that_can_be_read(opened: Opener, endpoint: str, client: "S3Client") -> None:
    """Infrequent access is read back like any other."""
    assert opened(endpoint, storage_class="STANDARD_IA").put(NAME, DATA).proof == "read_back"
    assert client.head_object(Bucket=BUCKET, Key=f"pg/{NAME}")["StorageClass"] == "STANDARD_IA"


def test_pruning_in_a_bucket_with_versions(opened: Opener, endpoint: str, client: "S3Client") -> None:
    """All versions go, marks too, those of longer names do not, and again is fine."""
    store = opened(endpoint, f"{_versioned(client, 'kept')}/pg")
    for data in (b"1", DATA):
        client.put_object(Bucket="kept", Key=f"pg/{NAME}", Body=data)
    client.delete_object(Bucket="kept", Key=f"pg/{NAME}")
    client.put_object(Bucket="kept", Key=f"pg/{NAME}", Body=DATA)
    store.put(f"{NAME}0", DATA)
    for _ in range(2):
        store.delete(NAME)
    left = client.list_object_versions(Bucket="kept")
    assert ([one["Key"] for one in left["Versions"]], left.get("DeleteMarkers", [])) == ([f"pg/{NAME}0"], [])


def test_what_object_lock_keeps(opened: Opener, endpoint: str, client: "S3Client") -> None:
    """Named as locked, with its end, and not as a right that the key has not."""
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    store = opened(endpoint, "locked/pg")
    until = datetime(2099, 1, 2, tzinfo=UTC)
    client.put_object(
        Bucket="locked",
        Key=f"pg/{NAME}",
        Body=DATA,
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=until,
        ChecksumAlgorithm="SHA256",
    )
    with pytest.raises(ObjectLocked, match="governance until 2099-01-02"):
        store.delete(NAME)
    assert store.get(NAME) == DATA


def test_a_key_that_may_not_list_versions(
    opened: Opener, endpoint: str, client: "S3Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are none, all is deleted; where there are, it is told that they stay."""
    refused = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}

    def refuse(*_: object, **__: object) -> None:
        raise ClientError(refused, "ListObjectVersions")  # type: ignore[arg-type] # as little as is looked at

    monkeypatch.setattr(PageIterator, "__iter__", refuse)
    plain, versioned = opened(endpoint), opened(endpoint, f"{_versioned(client, 'unlisted')}/pg")
    for store in (plain, versioned):
        store.put(NAME, DATA)
    plain.delete(NAME)
    assert plain.stat(NAME) is None
    with pytest.raises(StoreRefused, match="may not list them"):
        versioned.delete(NAME)


def _versioned(client: "S3Client", bucket: str) -> str:
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def test_unfinished_uploads_are_cancelled(store: Store, client: "S3Client") -> None:
    """Those below our prefix that are old enough."""
    for key in ("pg/a", "elsewhere"):
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    began = client.list_multipart_uploads(Bucket=BUCKET)["Uploads"][0]["Initiated"]
    assert store.cancel_unfinished(86_400, began + timedelta(hours=23)) == 0
    assert store.cancel_unfinished(86_400, began + timedelta(hours=25)) == 1
    assert [one["Key"] for one in client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["elsewhere"]


def test_a_bucket_that_is_not_there(opened: Opener, endpoint: str, client: "S3Client") -> None:
    """Named as such, when something is put there or listed."""
    store = opened(endpoint, path="nowhere")
    with pytest.raises(StoreAbsent):
        store.put(NAME, DATA)
    with pytest.raises(StoreAbsent):
        list(store.list(""))


class _Refusing(BaseHTTPRequestHandler):
    """Answers everything the same way."""

    protocol_version = "HTTP/1.1"
    answer: tuple[int, str, str]
    date = ""
    silent: threading.Event | None = None

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        if self.silent is not None:
            self.silent.wait(20)
            self.close_connection = True
            return
        status, kind, text = self.answer
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        if self.date:
            self.send_header("Date", self.date)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@contextmanager
def refusing(**attributes: object) -> Iterator[str]:
    """The address of a server that always answers so."""
    handler = type("Handler", (_Refusing,), attributes)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def xml(code: str) -> str:
    """An error as S3 writes it."""
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told by {code}</Message></Error>"


@pytest.mark.parametrize(
    ("status", "kind", "text", "error"),
    [
        (403, "application/xml", xml("AccessDenied"), StoreRefused),
        (401, "application/xml", xml("Unauthorized"), StoreRefused),
        (403, "application/xml", xml("RequestTimeTooSkewed"), ClockSkewed),
        (403, "application/xml", xml("QuotaExceeded"), StoreFull),
        (507, "application/xml", xml("XMinioStorageFull"), StoreFull),
        (503, "application/xml", xml("SlowDown"), StoreBusy),
        (429, "application/xml", xml("TooManyRequests"), StoreBusy),
        (500, "text/html", "<html>oops</html>", StoreBusy),
        (200, "text/html", "<html>Log in</html>", NotAStore),
        (302, "text/html", "<html>Log in</html>", NotAStore),
        (403, "text/plain", "no XML", StoreRefused),
        (200, "application/xml", NO_DATE, NotAStore),
        (418, "application/xml", xml("Teapot"), StoreError),
    ],
)
def test_answers_are_named(
    opened: Opener, status: int, kind: str, text: str, error: type[StoreError]
) -> None:
    """Every refusal, overload, cap and portal as its own error, with place and remedy."""
    with refusing(answer=(status, kind, text)) as at, pytest.raises(StoreError) as caught:
        list(opened(at).list("wal/"))
    assert type(caught.value) is error
    assert caught.value.place == "s3:cold/pg/wal/"
    assert caught.value.remedy
    assert "hush" not in str(caught.value)


def test_a_portal_takes_no_backup(opened: Opener) -> None:
    """A page with 200 is no success of a put, and no object."""
    with refusing(answer=(200, "text/html", "<html>Log in</html>")) as at:
        store = opened(at)
        for call in (lambda: store.put(NAME, DATA), lambda: store.get(NAME), lambda: store.stat(NAME)):
            with pytest.raises(NotAStore):
                call()


def test_a_wrong_clock_is_told(opened: Opener) -> None:
    """From the date of any answer."""
    date = format_datetime(datetime.now(UTC) - timedelta(days=40), usegmt=True)
    with refusing(answer=(200, "application/xml", ""), date=date) as at, pytest.raises(ClockSkewed):
        opened(at).stat(NAME)


def test_a_server_that_does_not_answer(opened: Opener) -> None:
    """Bounded by the limits, and named."""
    silent = threading.Event()
    limits = Limits(1, 0.1, 2, 2, 0.001, 0.002)
    with refusing(silent=silent) as at, pytest.raises(StoreUnreachable):
        opened(at, limits=limits).put(NAME, DATA)
    silent.set()


def test_nobody_listens(opened: Opener) -> None:
    """A server that is down."""
    with refusing(answer=(200, "text/plain", "")) as at:
        pass
    with pytest.raises(StoreUnreachable):
        opened(at).get(NAME)
