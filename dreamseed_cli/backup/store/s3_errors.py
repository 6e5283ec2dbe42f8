"""What boto3's exceptions mean, in the terms of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from dreamseed_cli.backup.store.errors import (
    ClockSkewed,
    NotAStore,
    ObjectMissing,
    ObjectNotReadable,
    StoreAbsent,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)

_UNREACHABLE = (
    *(boto.HTTPClientError, boto.IncompleteReadError, boto.ConnectionError, HTTPError),
    OSError,
)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """Codes and statuses of answers, the kind of error that they are, and what to do about it."""

    kind: type[StoreError]
    codes: frozenset[str]
    statuses: range
    remedy: str


_NONE = range(0)
# The first that fits: by the code, else by the status, which is coarser.
_MEANINGS = (
    _Meaning(ObjectMissing, frozenset({"NoSuchKey", "404"}), _NONE, "See what the store lists."),
    _Meaning(StoreAbsent, frozenset({"NoSuchBucket"}), _NONE, "Create the bucket, or correct its name."),
    _Meaning(
        ObjectNotReadable,
        frozenset({"InvalidObjectState"}),
        _NONE,
        "It lies in cold storage: ask it back (aws s3api restore-object), wait some hours, try again.",
    ),
    _Meaning(
        ClockSkewed,
        frozenset({"RequestTimeTooSkewed"}),
        _NONE,
        "Set this machine's clock (timedatectl).",
    ),
    _Meaning(
        StoreFull,
        frozenset({"QuotaExceeded", "StorageQuotaExceeded", "XMinioStorageFull"}),
        range(507, 508),
        "Raise the quota, or free space.",
    ),
    _Meaning(
        StoreBusy,
        frozenset({"SlowDown", "ConditionalRequestConflict", "OperationAborted", "RequestTimeout"}),
        range(500, 600),
        "Try again later.",
    ),
    _Meaning(StoreBusy, frozenset(), range(429, 430), "Try again later."),
    _Meaning(
        StoreRefused,
        frozenset({"SignatureDoesNotMatch", "ExpiredToken"}),
        range(401, 404),
        "Check the key, its policy, and the bucket's Object Lock.",
    ),
)


@contextmanager
def s3_errors(place: str, right: str) -> Iterator[None]:
    """Name what goes wrong inside. right: the action that a policy has to allow for it."""
    try:
        yield
    except boto.ClientError as error:
        raise _of_code(error, place, right) from error
    except (ResponseParserError, ValueError) as error:
        raise NotAStore(
            "its answer is not S3's", place=place, remedy="Check the proxy and the endpoint's address."
        ) from error
    except _UNREACHABLE as error:
        cause = f"no answer: {str(error)[:200] or type(error).__name__}"
        raise StoreUnreachable(
            cause, place=place, remedy="Check the connection and the endpoint's address."
        ) from error
    except StoreError as error:
        error.place = error.place or place
        raise


def code(error: boto.ClientError) -> str:
    """S3's name for the error, or the status where a HEAD's answer has none."""
    return error.response["Error"].get("Code", "")


def _of_code(error: boto.ClientError, place: str, right: str) -> StoreError:
    name, status = code(error), int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0))
    text = f"{name}: {error.response['Error'].get('Message', '')}"[:200]
    by_code = next((meaning for meaning in _MEANINGS if name in meaning.codes), None)
    meaning = by_code or next((meaning for meaning in _MEANINGS if status in meaning.statuses), None)
    if meaning is None:
        return StoreError(text, place=place, remedy="See the server's documentation for this error.")
    needed = f"; needed there is the right '{right}'" if meaning.kind is StoreRefused else ""
    return meaning.kind(text + needed, place=place, remedy=meaning.remedy, wait_s=_wait_s(error))


def _wait_s(error: boto.ClientError) -> float | None:
    after = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("retry-after", "")
    return float(after) if after.isdigit() else None
