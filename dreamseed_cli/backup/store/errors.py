"""What can go wrong with a store, each named for what it is."""

from __future__ import annotations

from typing import ClassVar

from dreamseed_cli.core.errors import FailedError, MissingError

_MANY = 1000
"""As often as the limits allow."""


class StoreError(FailedError):
    """A call to a store failed.

    most_tries: how often a call is tried that fails so; 1: trying again cannot help.
    wait_s: how long the store asked to be left alone, in seconds; None if it did not say.
    """

    kind = "store"
    most_tries: ClassVar[int] = 1

    def __init__(self, cause: str, *, place: str = "", remedy: str = "", wait_s: float | None = None) -> None:
        super().__init__(cause, place=place, remedy=remedy)
        self.wait_s = wait_s


class StoreUnreachable(StoreError):
    """No connection, no answer in time, or one that broke off; a folder that is not there."""

    kind = "store_unreachable"
    most_tries = _MANY


class StoreBusy(StoreError):
    """The store answered 429 or 5xx: later, not now."""

    kind = "store_busy"
    most_tries = _MANY


class StoreAbsent(StoreError):
    """There is no store of ours at this place: a disk that is not mounted, a bucket that does not exist."""

    kind = "store_absent"
    exit_code = MissingError.exit_code


class StoreRefused(StoreError):
    """A wrong key, a right that the key has not, or a lock on the object (401, 403, EACCES)."""

    kind = "store_refused"


class ObjectLocked(StoreRefused):
    """The store keeps it against everybody, for a time or by a legal hold. until: when or why, for people."""

    kind = "object_locked"

    def __init__(self, until: str | None, *, place: str) -> None:
        self.until = until or "a time that the key may not read"
        super().__init__(
            f"Object Lock keeps it ({self.until})",
            place=place,
            remedy="Wait until then: that is what the lock is for.",
        )


class TokenRefused(StoreRefused):
    """The store no longer takes a token that it gave us itself: a new one may do."""

    most_tries = _MANY


class StoreFull(StoreError):
    """No room: a full disk, a quota, or a cap on the account's storage or transactions."""

    kind = "store_full"


class NotAStore(StoreError):
    """Something else answered in the store's place: a captive portal's page, a proxy, a wrong address."""

    kind = "not_a_store"


class ClockSkewed(StoreError):
    """Our clock and the store's differ by so much that one of them is wrong."""

    kind = "clock_skewed"


class ObjectMissing(StoreError):
    """No visible object of this name."""

    kind = "object_missing"


class ObjectCorrupt(StoreError):
    """The bytes that came are not those that were put. The way here may be to blame, or the store."""

    kind = "object_corrupt"
    most_tries = 3


class ObjectConflict(StoreError):
    """Other bytes are already stored under this name."""

    kind = "object_conflict"


class ObjectNotReadable(StoreError):
    """It lies in cold storage and has to be asked back first."""

    kind = "object_not_readable"
