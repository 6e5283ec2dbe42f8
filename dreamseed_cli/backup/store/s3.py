"""An S3-compatible bucket as a store: the second copy, in cold storage if wished (AWS, R2, MinIO, ...)."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from dreamseed_cli.backup.store.base import CHUNK, Limits, Reading, Rights, Stored, Version
from dreamseed_cli.backup.store.errors import (
    ObjectConflict,
    ObjectCorrupt,
    ObjectLocked,
    StoreError,
    StoreRefused,
)
from dreamseed_cli.backup.store.s3_client import connect
from dreamseed_cli.backup.store.s3_errors import code, s3_errors

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3.type_defs import PutObjectRequestTypeDef

COLD = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""The classes that cannot be read before they are asked back."""
_SHA256 = "sha256"
"""The metadata that keeps our hash."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """prefix: empty, or with a '/' at its end. endpoint: None for AWS."""

    bucket: str
    prefix: str
    endpoint: str | None
    region: str
    storage_class: str
    key_id: str
    key: str


class S3Bucket:
    """A backend (see `base.Backend`)."""

    def __init__(self, place: S3Place, limits: Limits) -> None:
        self._place = place
        self._client = connect(place.endpoint, place.region, (place.key_id, place.key), limits)
        self._conditional = True
        self.name = f"s3:{place.bucket}/{place.prefix}".rstrip("/")

    def write(self, name: str, data: bytes, sha256: str) -> None:
        request: PutObjectRequestTypeDef = {
            "Bucket": self._place.bucket,
            "Key": self._place.prefix + name,
            "Body": data,
            "ContentType": "application/octet-stream",
            "Metadata": {_SHA256: sha256},
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": _base64(sha256),
        }
        if self._place.storage_class != "STANDARD":
            request["StorageClass"] = self._place.storage_class  # type: ignore[typeddict-item] # any server's
        with self._calling(name, "s3:PutObject"):
            self._put(request)

    def confirm(self, name: str, sha256: str) -> bool:
        if self._place.storage_class not in COLD:
            return False
        with self._calling(name, "s3:GetObject"):
            head = self._client.head_object(**self._at(name), ChecksumMode="ENABLED")
        checksum = head.get("ChecksumSHA256")
        if checksum is None:
            raise StoreError(
                "the server tells no SHA-256 of what it stored, and its class cannot be read back",
                place=f"{self.name}/{name}",
                remedy="Choose a storage class that can be read, or another server.",
            )
        if checksum != _base64(sha256):
            raise ObjectCorrupt("the server's SHA-256 of it is another", place=f"{self.name}/{name}")
        return True

    @contextmanager
    def read(self, name: str) -> Iterator[Reading]:
        with self._calling(name, "s3:GetObject"):
            answer = self._client.get_object(**self._at(name))
        body = answer["Body"]
        try:
            yield Reading(answer["ContentLength"], answer["Metadata"].get(_SHA256), self._chunks(name, body))
        finally:
            body.close()

    def versions(self, name: str) -> tuple[Version, ...]:
        with self._calling(name, "s3:GetObject"):
            try:
                head = self._client.head_object(**self._at(name))
            except ClientError as error:
                if code(error) in {"404", "NoSuchKey"}:
                    return ()
                raise
        sha256 = head["Metadata"].get(_SHA256)
        key = head.get("VersionId", name)
        return (Version(name, key, head["ContentLength"], sha256, head["LastModified"]),)

    def page(self, prefix: str, after: str | None) -> tuple[list[Stored], str | None]:
        more: dict[str, Any] = {"ContinuationToken": after} if after else {}
        with self._calling(prefix, "s3:ListBucket"):
            full = self._place.prefix + prefix
            answer = self._client.list_objects_v2(Bucket=self._place.bucket, Prefix=full, **more)
        ours = len(self._place.prefix)
        stored = [
            Stored(entry["Key"][ours:], entry["Size"], None, entry["LastModified"])
            for entry in answer.get("Contents", ())
        ]
        return stored, answer.get("NextContinuationToken")

    def delete(self, name: str) -> None:
        ids = self._version_ids(name)
        if ids is None:
            self._delete_visible(name)
            return
        # The oldest first: as long as anything is left, a reader still sees the newest.
        for version_id in reversed(ids):
            self._delete_version(name, version_id)

    def cancel_unfinished(self, before: datetime) -> int:
        bucket, count = self._place.bucket, 0
        with self._calling("", "s3:AbortMultipartUpload"):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=bucket, Prefix=self._place.prefix):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < before:
                        self._client.abort_multipart_upload(
                            Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        count += 1
        return count

    def rights(self) -> Rights:
        return Rights(read=None, write=None, list=None, delete=None, key=self._place.key_id)

    def close(self) -> None:
        self._client.close()

    def _version_ids(self, name: str) -> list[str] | None:
        """Of its versions and the marks that hide it, newest first; None: server or key tells none."""
        key, found = self._place.prefix + name, list[tuple[datetime, str]]()
        with self._calling(name, "s3:ListBucketVersions"):
            pages = self._client.get_paginator("list_object_versions")
            try:
                for page in pages.paginate(Bucket=self._place.bucket, Prefix=key):
                    entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
                    found += [(one["LastModified"], one["VersionId"]) for one in entries if one["Key"] == key]
                    if not any(one["Key"] == key for one in entries):
                        break  # longer names: they come after it
            except ClientError as error:
                if code(error) not in {"AccessDenied", "NotImplemented"}:
                    raise
                return None
        return [version_id for _, version_id in sorted(found, key=lambda one: one[0], reverse=True)]

    def _delete_visible(self, name: str) -> None:
        """All there is to delete in a bucket without versions. StoreRefused: this one has some."""
        with self._calling(name, "s3:DeleteObject"):
            answer = self._client.delete_object(**self._at(name))
        if answer.get("DeleteMarker"):
            raise StoreRefused(
                "the bucket keeps versions, and the key may not list them: it is hidden, and not deleted",
                place=f"{self.name}/{name}",
                remedy="Allow s3:ListBucketVersions and s3:DeleteObjectVersion to the key for pruning.",
            )

    def _delete_version(self, name: str, version_id: str) -> None:
        with self._calling(name, "s3:DeleteObjectVersion"):
            try:
                self._client.delete_object(**self._at(name), VersionId=version_id)
            except ClientError as error:
                if code(error) == "AccessDenied" and (until := self._locked_until(name, version_id)):
                    raise ObjectLocked(until, place=f"{self.name}/{name}") from error
                raise

    def _locked_until(self, name: str, version_id: str) -> str | None:
        """Until when or why Object Lock keeps it; None: it does not, or the key may not see that."""
        try:
            head: Mapping[str, Any] = self._client.head_object(**self._at(name), VersionId=version_id)
        except ClientError:
            return None
        if head.get("ObjectLockLegalHoldStatus") == "ON":
            return "a legal hold"
        if (until := head.get("ObjectLockRetainUntilDate")) is None:
            return None
        return f"{head['ObjectLockMode'].lower()} until {until:%Y-%m-%d %H:%M:%S} UTC"

    def _put(self, request: PutObjectRequestTypeDef) -> None:
        if self._conditional:
            request["IfNoneMatch"] = "*"
        try:
            self._client.put_object(**request)
        except ClientError as error:
            if code(error) == "PreconditionFailed":
                raise ObjectConflict("the name is taken", place=f"{self.name}/{request['Key']}") from error
            if code(error) != "NotImplemented" or not self._conditional:
                raise
            self._conditional = False  # the server knows no conditions: looking before is all there is
            del request["IfNoneMatch"]
            self._client.put_object(**request)

    def _at(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._place.bucket, "Key": self._place.prefix + name}

    def _chunks(self, name: str, body: StreamingBody) -> Iterator[bytes]:
        with self._calling(name, "s3:GetObject"):
            yield from body.iter_chunks(CHUNK)

    @contextmanager
    def _calling(self, name: str, right: str) -> Iterator[None]:
        with s3_errors(f"{self.name}/{name}", right):
            yield


def _base64(sha256: str) -> str:
    """A hex hash as S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()
