"""A server that speaks Backblaze B2's native API over real HTTP, with b2sdk's simulator as its memory.

The real SDK talks to it over a real connection. Any request can be made to fail in any way that B2, a network
or a portal can: by its number (`server.faults[3] = Fault("reset")`), or by what it is for (`server.failing`).
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import io
import itertools
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from b2sdk.v3 import (
    NO_RETENTION_BUCKET_SETTING,
    BucketSimulator,
    FileRetentionSetting,
    RawSimulator,
    RetentionMode,
)
from b2sdk.v3 import exception as b2
from flipped import flipped

# fmt: off
FaultKind = Literal[
    "refuse", "stall", "trickle", "reset", "lost", "unauthorized", "expired", "cap", "busy", "unavailable",
    "html", "corrupt", "skew",
]
# fmt: on
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)
DAILY = ("listBuckets", "listFiles", "readFiles", "writeFiles", "readBucketRetentions", "readFileRetentions")
PRUNE = (*DAILY, "deleteFiles")
_PAGE = b"<!DOCTYPE html><html><body>Welcome! Please log in to Hotel WiFi.</body></html>"
_LONGEST_S = 30.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one request.

    refuse: the connection is reset before anything is done. stall: no answer at all. trickle: one, a byte at
    a time. reset: done, and the connection is reset in the middle of the answer. lost: done, without any
    answer. unauthorized: 401, the key does not hold. expired: 401, the token is too old; the next one holds.
    cap: 403. busy: 429 with Retry-After. unavailable: 503. html: a portal's page with 200. corrupt: a bit of
    a downloaded object is flipped. skew: the answer's date is wrong by `skew_s`.
    """

    kind: FaultKind
    skew_s: float = 3600.0
    cap: str = "storage_cap_exceeded"
    retry_after_s: int = 0


class _Bucket(BucketSimulator):  # type: ignore[misc] # b2sdk has no types
    FIRST_FILE_ID = "9" * 12

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.upload_url_counter = itertools.count()
        self.file_id_counter = itertools.count(10**12 - 1, -1)  # newer ones sort first, as strings too
        self.ahead_s = 0.0
        self.upload_timestamp_counter = (int((time.time() + self.ahead_s) * 1000) for _ in itertools.count())

    def list_file_names(
        self, token: str, start: str | None = None, most: int | None = None, prefix: str | None = None
    ) -> dict[str, Any]:
        """The simulator's list ends at the first name before the prefix: B2's begins at the prefix."""
        listed: dict[str, Any] = super().list_file_names(token, start or prefix, most, prefix)
        return listed

    def upload_file(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        uploaded: dict[str, Any] = super().upload_file(*args, **kwargs)
        retention = self.default_retention
        if retention is not None and retention.period is not None:  # the simulator forgets it
            until = datetime.now(UTC) + timedelta(days=retention.period.duration)
            self.file_id_to_file[uploaded["fileId"]].file_retention = FileRetentionSetting(
                RetentionMode(retention.mode.value), int(until.timestamp() * 1000)
            )
        return uploaded

    def _simulate_chunked_post(self, stream: io.BytesIO, *_: Any, **__: Any) -> bytes:
        return stream.read()


class _Memory(RawSimulator):  # type: ignore[misc] # b2sdk has no types
    BUCKET_SIMULATOR_CLASS = _Bucket

    def __init__(self, base: str) -> None:
        super().__init__()
        self.API_URL = self.S3_API_URL = self.DOWNLOAD_URL = base
        self.DOWNLOAD_URL_MATCHER = re.compile(
            re.escape(base) + r"(?:/nothing(?P<file_id>)|/file/(?P<bucket_name>[^/]+)/(?P<file_name>.+))$"
        )

    def _assert_account_auth(
        self,
        url: str,
        token: str,
        account: str,
        capability: str,
        bucket_id: Any = None,
        file_name: Any = None,
    ) -> None:
        """The simulator refuses a bucket's own key where a call does not name the bucket: B2 does not."""
        key = self.auth_token_to_key.get(token)
        if key is None:
            raise b2.InvalidAuthToken("unknown token", "bad_auth_token")
        if bucket_id is None and key.buckets_or_none:
            bucket_id = key.buckets_or_none[0]["id"]
        super()._assert_account_auth(url, token, account, capability, bucket_id, file_name)


class B2Server:
    """One bucket, `dreamseed`, on loopback. Leave it running with `with b2_server() as server`."""

    BUCKET = "dreamseed"

    def __init__(self) -> None:
        self.calls: list[str] = []
        """What was asked for, in order: `upload`, `download`, or the name of the API's call."""
        self.faults: dict[int, Fault] = {}
        """By the number of the request, from 0."""
        self.failing: Callable[[str], Fault | None] = lambda _: None
        """A fault for every request of this kind; called with what `calls` shows."""
        self.longest_hold_s = _LONGEST_S
        """How long a request is stalled, or its answer trickles, before its connection is reset."""
        self._released = threading.Event()
        self._lock = threading.RLock()
        self._http = _Listener(("127.0.0.1", 0), _Handler)
        self._http.b2 = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.memory = _Memory(self.url)
        account, master = self.memory.create_account()
        self.master = (account, master)
        self._token = self.memory.authorize_account(self.url, account, master)["authorizationToken"]
        self._account = account
        self._thread = threading.Thread(target=lambda: self._http.serve_forever(0.02), daemon=True)
        self._bucket_id = self._create_bucket()

    def new_key(self, capabilities: tuple[str, ...] = DAILY, prefix: str | None = None) -> tuple[str, str]:
        """A key for the bucket: its ID and itself."""
        with self._lock:
            made = self.memory.create_key(
                *(self.url, self._token, self._account, list(capabilities), "test-key", None),
                *([self._bucket_id], prefix),
            )
        return made["applicationKeyId"], made["applicationKey"]

    def environment(self, capabilities: tuple[str, ...] = DAILY) -> dict[str, str]:
        """A new key where `open_store` looks for it."""
        key_id, key = self.new_key(capabilities)
        return {"DREAMSEED_B2_KEY_ID": key_id, "DREAMSEED_B2_KEY": key}

    def reset(self) -> None:
        """Forget the requests so far, and the faults."""
        with self._lock:
            self.calls.clear()
            self.faults.clear()
            self.failing = lambda _: None

    def empty(self) -> None:
        """Remove all objects, and the bucket's retention; its clock is right again."""
        with self._lock:
            self.bucket.file_id_to_file.clear()
            self.bucket.file_name_and_id_to_file.clear()
            self.bucket.default_retention = NO_RETENTION_BUCKET_SETTING
            self.bucket.ahead_s = 0.0

    def remember(self) -> Callable[[], None]:
        """All objects as they are now; what is returned puts them back."""
        with self._lock:
            files, by_name = (dict(part) for part in self._files())

        def put_back() -> None:
            with self._lock:
                for part, kept in zip(self._files(), (files, by_name), strict=True):
                    part.clear()
                    part.update(kept)

        return put_back

    def expire_tokens(self) -> None:
        """As after 24 hours: every token given so far has to be replaced."""
        with self._lock:
            for token in self.memory.auth_token_to_key:
                if token != self._token:
                    self.memory.expire_auth_token(token)

    @property
    def bucket(self) -> Any:
        """The simulated bucket."""
        return self.memory.bucket_id_to_bucket[self._bucket_id]

    def objects(self) -> dict[str, list[bytes]]:
        """All that is stored: the bytes of each name's versions, newest first."""
        with self._lock:
            found: dict[str, list[bytes]] = {}
            for (name, _), file in sorted(self.bucket.file_name_and_id_to_file.items()):
                if file.action == "upload":
                    found.setdefault(name, []).append(file.data_bytes)
            return found

    def damage(self, name: str) -> None:
        """Flip a bit of the newest version, as a failing disk would."""
        with self._lock:
            file = self._newest(name)
            file.data_bytes = flipped(file.data_bytes)

    def put_foreign(self, name: str, data: bytes) -> None:
        """Another's upload: a version beside what is there."""
        with self._lock:
            url = self.bucket.get_upload_url(self._token)["uploadUrl"]
            self.memory.upload_file(
                *(url, url, name, len(data), "text/plain", _sha1(data), {}, io.BytesIO(data))
            )

    def hide(self, name: str) -> None:
        with self._lock:
            self.memory.hide_file(self.url, self._token, self._bucket_id, name)

    def show(self, name: str) -> None:
        """Delete the marks that hide it."""
        with self._lock:
            for (found, id_), file in list(self.bucket.file_name_and_id_to_file.items()):
                if found == name and file.action == "hide":
                    del self.bucket.file_name_and_id_to_file[found, id_]
                    del self.bucket.file_id_to_file[id_]

    def pass_days(self, days: float) -> None:
        """What is uploaded from now on is so much younger."""
        with self._lock:
            self.bucket.ahead_s += days * 86_400

    def start_large_file(self, name: str) -> None:
        """An upload of parts that nobody finishes."""
        with self._lock:
            self.memory.start_large_file(self.url, self._token, self._bucket_id, name, "b2/x-auto", {})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _create_bucket(self) -> str:
        made = self.memory.create_bucket(
            *(self.url, self._token, self._account, self.BUCKET, "allPrivate"), is_file_lock_enabled=True
        )
        return str(made["bucketId"])

    def _files(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        return self.bucket.file_id_to_file, self.bucket.file_name_and_id_to_file

    def _newest(self, name: str) -> Any:
        files = sorted(self.bucket.file_name_and_id_to_file.items())
        return next(file for (of, _), file in files if of == name)

    def take(self, call: str) -> Fault | None:
        """Count a request; what is to become of it."""
        with self._lock:
            self.calls.append(call)
            return self.faults.get(len(self.calls) - 1) or self.failing(call)

    def hold(self) -> None:
        """Do not answer, for as long as `longest_hold_s` says or until the server stops."""
        self._released.wait(self.longest_hold_s)

    def pause(self, seconds: float) -> bool:
        """Wait so long; whether the server is stopping."""
        return self._released.wait(seconds)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The simulator takes one call at a time."""
        with self._lock:
            yield


@contextmanager
def b2_server() -> Iterator[B2Server]:
    """A running server."""
    server = B2Server()
    server.start()
    try:
        yield server
    finally:
        server.stop()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    b2: B2Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news here."""


@dataclass(slots=True)
class _Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        self._handle(self._post)

    def do_GET(self) -> None:
        self._handle(self._download)

    def _handle(self, work: Callable[[bytes], _Answer]) -> None:
        b2_side = self.server.b2
        fault = b2_side.take(self._call())
        kind = fault.kind if fault else None
        if kind == "refuse":
            return self._hang_up()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if kind == "stall":
            b2_side.hold()
            return self._hang_up()
        answer = _preset(fault) or self._worked(work, body)
        if kind == "lost":
            return self._hang_up()
        if kind == "corrupt" and self._call() == "download":
            answer.body = flipped(answer.body)
        return self._send(answer, kind, fault.skew_s if fault and kind == "skew" else 0.0)

    def _call(self) -> str:
        path = urlsplit(self.path).path
        if path.startswith("/upload/"):
            return "upload"
        return "download" if path.startswith("/file/") else path.rpartition("/b2_")[2]

    def _worked(self, work: Callable[[bytes], _Answer], body: bytes) -> _Answer:
        try:
            with self.server.b2.locked():
                return work(body)
        except Exception as error:  # noqa: BLE001 - the simulator's errors are answers
            return _refusal(error, self._call())

    def _send(self, answer: _Answer, kind: str | None, ahead_s: float) -> None:
        date = datetime.now(UTC) + timedelta(seconds=ahead_s)
        self.send_response_only(answer.status)
        self.send_header("Date", format_datetime(date, usegmt=True))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if kind == "reset":
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self._hang_up()
        elif kind == "trickle":
            self._trickle(answer.body)
        else:
            self.wfile.write(answer.body)

    def _trickle(self, body: bytes) -> None:
        end = time.monotonic() + self.server.b2.longest_hold_s
        for at in range(len(body)):
            self.wfile.write(body[at : at + 1])
            if self.server.b2.pause(0.05) or time.monotonic() > end:
                self._hang_up()
                return

    def _hang_up(self) -> None:
        """Reset the connection, without a word."""
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # rfile and wfile hold the socket too: the reset goes out when the last of them is closed.
        self.connection.close()

    def _post(self, body: bytes) -> _Answer:
        memory, auth = self.server.b2.memory, self.headers.get("Authorization", "")
        call = self._call()
        if call == "upload":
            return self._upload(unquote(urlsplit(self.path).path[len("/upload/") :]), auth, body)
        if call == "authorize_account":
            key_id, _, key = base64.b64decode(auth.split()[1]).decode().partition(":")
            return _json(memory.authorize_account(self.server.b2.url, key_id, key))
        method = getattr(memory, call)
        known = inspect.signature(method).parameters
        arguments = {_PARAMETERS.get(name, _snake(name)): value for name, value in json.loads(body).items()}
        result = method(
            memory.API_URL, auth, **{name: value for name, value in arguments.items() if name in known}
        )
        if "uploadUrl" in result:
            path = result["uploadUrl"].removeprefix(_UPLOADS)
            result = {**result, "uploadUrl": f"{self.server.b2.url}/upload/{path}"}
        return _json(result)

    def _upload(self, path: str, auth: str, body: bytes) -> _Answer:
        headers, memory = self.headers, self.server.b2.memory
        token = path.rpartition("/")[2]
        if token in memory.expired_auth_tokens:
            raise b2.InvalidAuthToken("upload token expired", "expired_auth_token")
        info = {
            name[len("x-bz-info-") :].lower(): unquote(value)
            for name, value in headers.items()
            if name.lower().startswith("x-bz-info-")
        }
        name, sha1 = unquote(headers["X-Bz-File-Name"]), headers["X-Bz-Content-Sha1"]
        kind = headers["Content-Type"]
        stream = io.BytesIO(body)
        return _json(memory.upload_file(_UPLOADS + path, auth, name, len(body), kind, sha1, info, stream))

    def _download(self, _: bytes) -> _Answer:
        auth, memory = self.headers.get("Authorization", ""), self.server.b2.memory
        bucket = self.server.b2.bucket
        memory._assert_account_auth(memory.API_URL, auth, bucket.account_id, "readFiles", bucket.bucket_id)
        with memory.download_file_from_url(auth, self.server.b2.url + self.path) as response:
            headers = {name: str(value) for name, value in response.headers.items() if value is not None}
            return _Answer(
                200, response.data_bytes, {n: v for n, v in headers.items() if n != "content-length"}
            )


_UPLOADS = "https://upload.example.com/"
_PARAMETERS = {"namePrefix": "prefix"}


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()  # noqa: S324 - B2's own checksum


def _json(value: object, status: int = 200) -> _Answer:
    return _Answer(status, json.dumps(value, default=list).encode())


def _error(status: int, code: str, message: str = "", **headers: str) -> _Answer:
    answer = _json({"status": status, "code": code, "message": message}, status)
    answer.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
    return answer


def _preset(fault: Fault | None) -> _Answer | None:
    """The answer that a fault gives without anything being done."""
    if fault is None:
        return None
    if fault.kind == "busy":
        return _error(429, "too_many_requests", Retry_After=str(fault.retry_after_s))
    if fault.kind == "html":
        return _Answer(200, _PAGE, {"Content-Type": "text/html; charset=utf-8"})
    if fault.kind == "cap":
        return _error(403, fault.cap)
    refusal = _FAULT_ERRORS.get(fault.kind)
    return _error(*refusal) if refusal else None


_FAULT_ERRORS: dict[str, tuple[int, str]] = {
    "unauthorized": (401, "unauthorized"),
    "expired": (401, "expired_auth_token"),
    "unavailable": (503, "service_unavailable"),
}
_REFUSALS: tuple[tuple[type[Exception], int, str], ...] = (
    (b2.InvalidAuthToken, 401, "expired_auth_token"),
    (b2.Unauthorized, 401, "unauthorized"),
    (b2.AccessDenied, 403, "access_denied"),
    (b2.FileNotPresent, 400, "file_not_present"),
    (b2.FileSha1Mismatch, 400, "bad_request"),
)


def _refusal(error: Exception, call: str) -> _Answer:
    if call == "download" and isinstance(error, b2.FileNotPresent):
        return _error(404, "not_found")
    if call == "authorize_account" and isinstance(error, b2.InvalidAuthToken):
        return _error(401, "unauthorized", str(error))
    for kind, status, code in _REFUSALS:
        if isinstance(error, kind):
            return _error(status, code, str(error))
    return _error(400, "bad_request", f"{type(error).__name__}: {error}")
