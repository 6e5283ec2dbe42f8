"""A Backblaze B2 bucket as a store, through the SDK's session.

Every object is one small file, sent in one call: the SDK lets a corrupted large file pass, commits an upload
whose producer failed, and leaves unfinished ones behind that no listing shows (measured; see parts of the
design). B2 has no conditional put: other bytes of the same name become a version beside the first one, which
is therefore looked for before and after each put.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from b2sdk.v3 import B2Session
from b2sdk.v3 import exception as b2

from dreamseed_cli.backup.store.b2_errors import b2_errors
from dreamseed_cli.backup.store.b2_http import pieces, session
from dreamseed_cli.backup.store.base import Limits, Reading, Rights, Stored, Version
from dreamseed_cli.backup.store.errors import ObjectLocked, StoreAbsent, StoreRefused

_PAGE = 1000
"""Entries of a list: as many as B2 bills as one call."""
_SHA256 = "sha256"
"""The file info that keeps our hash."""


@dataclass(frozen=True, slots=True)
class B2Place:
    """prefix: empty, or with a '/' at its end. realm: a name that the SDK knows or an address."""

    bucket: str
    prefix: str
    realm: str
    key_id: str
    key: str


class B2Bucket:
    """A backend (see `base.Backend`)."""

    def __init__(self, place: B2Place, limits: Limits) -> None:
        self._place = place
        self._session: B2Session = session(limits)
        self._bucket_id: str | None = None
        self.name = f"b2:{place.bucket}/{place.prefix}".rstrip("/")

    def write(self, name: str, data: bytes, sha256: str) -> None:
        with self._calling(name, "writeFiles"):
            try:
                self._session.upload_file(
                    self._bucket(),
                    self._place.prefix + name,
                    len(data),
                    "application/octet-stream",
                    hashlib.sha1(data).hexdigest(),  # noqa: S324 - what B2 itself checks an upload against
                    {_SHA256: sha256},
                    io.BytesIO(data),
                )
            except b2.InvalidAuthToken:
                # The addresses for uploads carry tokens of their own, which were given with the old one.
                self._session.account_info.clear_bucket_upload_data(self._bucket())
                raise

    def confirm(self, name: str, sha256: str) -> bool:
        return False

    @contextmanager
    def read(self, name: str) -> Iterator[Reading]:
        with self._calling(name, "readFiles"):
            self._bucket()
            full = self._place.prefix + name
            url = self._session.get_download_url_by_name(self._place.bucket, full)
            with self._session.download_file_from_url(url) as response:
                headers = response.headers
                size = int(headers["Content-Length"])
        try:
            yield Reading(size, headers.get(f"X-Bz-Info-{_SHA256}"), self._chunks(name, response))
        finally:
            response.close()

    def versions(self, name: str) -> tuple[Version, ...]:
        full = self._place.prefix + name
        found: list[dict[str, Any]] = []
        start: tuple[str, str | None] | None = (full, None)
        with self._calling(name, "listFiles"):
            while start is not None:
                page = self._session.list_file_versions(self._bucket(), *start, _PAGE, full)
                files = page["files"]
                found += [file for file in files if file["fileName"] == full]
                more = page["nextFileName"] == full and page["nextFileId"] not in {None, start[1]}
                start = (full, page["nextFileId"]) if more else None
        return tuple(self._version(file) for file in found if file["action"] != "start")

    def page(self, prefix: str, after: str | None) -> tuple[list[Stored], str | None]:
        with self._calling(prefix, "listFiles"):
            page = self._session.list_file_names(self._bucket(), after, _PAGE, self._place.prefix + prefix)
            stored = [self._version(file).stored() for file in page["files"] if file["action"] == "upload"]
        return stored, page["nextFileName"]

    def delete(self, name: str) -> None:
        # The oldest first: as long as anything is left, a reader still sees the newest.
        for version in reversed(self.versions(name)):
            self._delete_version(version)

    def cancel_unfinished(self, before: datetime) -> int:
        count, start = 0, None
        while True:
            with self._calling("", "listFiles"):
                page = self._session.list_unfinished_large_files(
                    self._bucket(), start, 100, self._place.prefix or None
                )
            for file in page["files"]:
                if _moment(file["uploadTimestamp"]) < before:
                    with self._calling("", "writeFiles"):
                        self._session.cancel_large_file(file["fileId"])
                    count += 1
            if page["nextFileId"] in {None, start}:
                return count
            start = page["nextFileId"]

    def rights(self) -> Rights:
        with self._calling("", "listBuckets", check=False):
            self._bucket()
            has = self._capabilities()
            entry = self._bucket_entry() if "listBuckets" in has else {}
            retention = _retention(entry) if "readBucketRetentions" in has else None
        return Rights(
            read="readFiles" in has,
            write="writeFiles" in has,
            list="listFiles" in has,
            delete="deleteFiles" in has,
            key=self._place.key_id,
            retention=retention,
            expiry=self._expiry(entry),
        )

    def close(self) -> None:
        self._session.raw_api.b2_http.session.close()

    def _delete_version(self, version: Version) -> None:
        with self._calling(version.name, "deleteFiles"):
            try:
                self._session.delete_file_version(version.key, self._place.prefix + version.name)
            except b2.FileNotPresent:
                return  # by a rival, or by a try whose answer was lost
            except b2.AccessDenied as error:
                raise ObjectLocked(version.retained, place=f"{self.name}/{version.name}") from error

    @contextmanager
    def _calling(self, name: str, right: str, *, check: bool = True) -> Iterator[None]:
        """A call that needs this right, told from the key's own list before B2 has to say so."""
        place = f"{self.name}/{name}"
        with b2_errors(place, right):
            self._bucket()
            if check and right not in self._capabilities():
                raise StoreRefused(
                    f"the key {self._place.key_id} has not the right '{right}'",
                    place=place,
                    remedy=f"Use a key with '{right}' for this, such as the one for pruning.",
                )
            yield

    def _bucket(self) -> str:
        """The bucket's ID, after the first authorisation.

        Without a lock, so that no thread waits for one that hangs: at worst, several authorise.
        """
        if self._bucket_id is None:
            self._authorize(self._place)
            self._check_prefix()
            self._bucket_id = self._allowed_bucket() or self._listed_bucket()
        return self._bucket_id

    def _authorize(self, place: B2Place) -> None:
        try:
            self._session.authorize_account(place.realm, place.key_id, place.key)
        except b2.Unauthorized as error:
            raise StoreRefused(
                f"the key {place.key_id} is not accepted",
                place=self.name,
                remedy="Check the key's two environment variables, and that B2 still lists the key.",
            ) from error

    def _allowed(self) -> dict[str, Any]:
        allowed: dict[str, Any] = self._session.account_info.get_allowed()
        return allowed

    def _capabilities(self) -> frozenset[str]:
        return frozenset(self._allowed()["capabilities"])

    def _check_prefix(self) -> None:
        prefix = self._allowed()["namePrefix"] or ""
        if not self._place.prefix.startswith(prefix):
            raise StoreRefused(
                f"the key {self._place.key_id} is only for names that start with '{prefix}'",
                place=self.name,
                remedy="Use that prefix, or a key for this one.",
            )

    def _allowed_bucket(self) -> str | None:
        """From the key's own list of buckets; None if it is for all of them."""
        buckets = self._allowed()["buckets"]
        if not buckets:
            return None
        for bucket in buckets:
            if bucket["name"] == self._place.bucket:
                return str(bucket["id"])
        raise StoreRefused(
            f"the key {self._place.key_id} is for other buckets",
            place=self.name,
            remedy="Use a key for this bucket.",
        )

    def _listed_bucket(self) -> str:
        return str(self._bucket_entry()["bucketId"])

    def _bucket_entry(self) -> dict[str, Any]:
        account = self._session.account_info.get_account_id()
        found = self._session.list_buckets(account, bucket_name=self._place.bucket)["buckets"]
        if not found:
            raise StoreAbsent("no such bucket", place=self.name, remedy="Create it, or correct its name.")
        entry: dict[str, Any] = found[0]
        return entry

    def _expiry(self, bucket: dict[str, Any]) -> tuple[str, ...]:
        """Lifecycle rules for some of our names that hide by age alone. What is hidden later goes for good; a
        rule that only deletes what is hidden already takes nothing from us.
        """
        ours, found = self._place.prefix, list[str]()
        for rule in bucket.get("lifecycleRules") or ():
            prefix, days = rule["fileNamePrefix"], rule.get("daysFromUploadingToHiding")
            if days is not None and (ours.startswith(prefix) or prefix.startswith(ours)):
                found.append(f"names that start with '{prefix}' are hidden {days} days after their upload")
        return tuple(found)

    def _chunks(self, name: str, response: requests.Response) -> Iterator[bytes]:
        with b2_errors(f"{self.name}/{name}", "readFiles"):
            yield from pieces(response)

    def _version(self, file: dict[str, Any]) -> Version:
        return Version(
            name=file["fileName"].removeprefix(self._place.prefix),
            key=file["fileId"],
            size=file["contentLength"] or 0,
            sha256=(file.get("fileInfo") or {}).get(_SHA256),
            uploaded=_moment(file["uploadTimestamp"]),
            marker=file["action"] == "hide",
            retained=_retained(file),
        )


def _retention(bucket: dict[str, Any]) -> str | None:
    default = ((bucket.get("fileLockConfiguration") or {}).get("value") or {}).get("defaultRetention") or {}
    if not default.get("mode"):
        return None
    period = default["period"]
    return f"{default['mode']} for {period['duration']} {period['unit']}"


def _retained(file: dict[str, Any]) -> str | None:
    retention = (file.get("fileRetention") or {}).get("value") or {}
    if (file.get("legalHold") or {}).get("value") == "on":
        return "a legal hold"
    if not retention.get("retainUntilTimestamp"):
        return None
    return f"{retention['mode']} until {_moment(retention['retainUntilTimestamp']):%Y-%m-%d %H:%M:%S} UTC"


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
