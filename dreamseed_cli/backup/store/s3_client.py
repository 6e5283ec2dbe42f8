"""boto3's S3 client, held to our limits: one try a request, bounded, and no page of a portal believed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.response import StreamingBody

from dreamseed_cli.backup.store.base import Limits
from dreamseed_cli.backup.store.errors import ClockSkewed, NotAStore, StoreError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MOST_SKEW_S = 900
"""AWS refuses requests that are off by more."""

_MAKING = threading.Lock()
"""Clients are safe in several threads, making them is not."""


def connect(endpoint: str | None, region: str, keys: tuple[str, str], limits: Limits) -> S3Client:
    """A client for use by several threads. endpoint: None for AWS. keys: the key's ID and the key."""
    config = Config(
        connect_timeout=limits.connect_s,
        read_timeout=limits.call_s,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path" if endpoint else "auto"},
        # Other servers often know no checksums but the one that we send ourselves.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=32,
        user_agent_extra="dreamseed",
    )
    with _MAKING:
        client = _session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
            config=config,
        )
    client.meta.events.register("before-parse.s3", _check_answer)
    return client


@cache
def _session() -> boto3.session.Session:
    """One for all: it takes long to read the description of S3."""
    return boto3.session.Session()


def _check_answer(response_dict: dict[str, Any], **_: Any) -> None:
    """A portal answers a PUT with 200 and a page, which boto3 takes for success."""
    try:
        _check_headers(response_dict)
    except StoreError:
        # A body that nobody reads any more would keep its connection open.
        if isinstance(response_dict["body"], StreamingBody):
            response_dict["body"].close()
        raise


def _check_headers(response_dict: dict[str, Any]) -> None:
    status, headers = response_dict["status_code"], response_dict["headers"]
    kind = headers.get("Content-Type", "")
    # Some servers leave that type on answers without a body, but mark them as S3's.
    page = kind.startswith("text/html") and not any(name.lower().startswith("x-amz") for name in headers)
    if page and status != 429 and status < 500:
        raise NotAStore(
            f"something else answered in S3's place (HTTP {status} with {kind})",
            remedy="Log in to the network if it has a portal; check the proxy and the endpoint's address.",
        )
    date = headers.get("Date")
    if date is not None:
        there = parsedate_to_datetime(date).replace(tzinfo=UTC)
        skew_s = (datetime.now(UTC) - there).total_seconds()
        if abs(skew_s) > MOST_SKEW_S:
            raise ClockSkewed(
                f"this machine's clock is {skew_s:+.0f} s off the server's",
                remedy="Set this machine's clock (timedatectl): backups must know when they are from.",
            )
