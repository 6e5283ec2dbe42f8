"""What b2sdk's exceptions mean, in the terms of a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from b2sdk.v3 import exception as b2

from dreamseed_cli.backup.store.b2_http import MOST_SKEW_S, NotB2Answer
from dreamseed_cli.backup.store.errors import (
    ClockSkewed,
    NotAStore,
    ObjectMissing,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
    TokenRefused,
)

_UNREACHABLE = (
    *(b2.B2ConnectionError, b2.B2RequestTimeout, b2.RequestTimeout, b2.BrokenPipe, b2.ConnectionReset),
    *(b2.UnknownHost, b2.TruncatedOutput),
    *(requests.ConnectionError, requests.Timeout),
)
_BUSY = (b2.ServiceError, b2.TooManyRequests)


@contextmanager
def b2_errors(place: str, right: str) -> Iterator[None]:
    """Name what goes wrong inside. right: the capability of the key that is needed there."""
    try:
        yield
    except (b2.B2Error, requests.RequestException, ValueError, KeyError) as error:
        raise named(error, place, right) from error


def named(error: Exception, place: str, right: str) -> StoreError:
    """The error of a store that this is."""
    return (
        _of_connection(error, place)
        or _of_key(error, place, right)
        or _of_room(error, place)
        or StoreError(
            f"{type(error).__name__}: {error}", place=place, remedy="See B2's status page, and the log."
        )
    )


def _of_connection(error: Exception, place: str) -> StoreError | None:
    if isinstance(error, _UNREACHABLE):
        return StoreUnreachable(
            f"no answer: {_short(error)}", place=place, remedy="Check the connection to the internet."
        )
    if isinstance(error, _BUSY):
        wait_s = error.retry_after_seconds
        return StoreBusy(_short(error), place=place, remedy="Try again later.", wait_s=wait_s)
    if isinstance(error, b2.ClockSkew):
        return ClockSkewed(
            f"this machine's clock is {error.clock_skew_seconds:+.0f} s off B2's, more than {MOST_SKEW_S} s",
            place=place,
            remedy="Set this machine's clock (timedatectl): backups must know when they are from.",
        )
    # What is not JSON, or not B2's, fails in the SDK's parser or where a field is missing.
    if isinstance(error, (NotB2Answer, ValueError, KeyError)):
        return NotAStore(
            f"something else answered in B2's place ({_short(error)})",
            place=place,
            remedy="Log in to the network if it has a portal; check the proxy and the realm's address.",
        )
    return None


def _of_key(error: Exception, place: str, right: str) -> StoreError | None:
    if isinstance(error, b2.InvalidAuthToken):
        return TokenRefused(
            "the key or its token is not accepted",
            place=place,
            remedy="Check the key's two environment variables, and that B2 still lists the key.",
        )
    if isinstance(error, (b2.Unauthorized, b2.AccessDenied)):
        return StoreRefused(
            f"refused: {_short(error)}; needed there is the right '{right}'",
            place=place,
            remedy="Check the key, its rights, its bucket and prefix, and the bucket's Object Lock.",
        )
    return None


def _of_room(error: Exception, place: str) -> StoreError | None:
    # The SDK knows two of B2's caps.
    if isinstance(error, b2.CapExceeded) or "cap_exceeded" in str(error):
        return StoreFull(
            f"a cap of the account is reached ({_short(error)})",
            place=place,
            remedy="Raise the cap under 'Caps & Alerts' of the B2 account.",
        )
    if isinstance(error, b2.FileNotPresent):
        return ObjectMissing("no such object", place=place, remedy="See what the store lists.")
    return None


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]
