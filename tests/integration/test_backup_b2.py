"""The store in a B2 bucket: the real SDK over real HTTP, and every way in which that can fail."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from b2_server import DAILY, FAULTS, PRUNE, B2Server, Fault, FaultKind, b2_server
from b2sdk.v3 import BucketRetentionSetting, RetentionMode, RetentionPeriod
from flipped import flipped

from dreamseed_cli.backup.store import b2
from dreamseed_cli.backup.store.base import Limits, Store
from dreamseed_cli.backup.store.errors import (
    ClockSkewed,
    NotAStore,
    ObjectConflict,
    ObjectCorrupt,
    ObjectMissing,
    StoreAbsent,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)
from dreamseed_cli.backup.store.open import StoreSettings, open_store

LIMITS = Limits(connect_s=2, call_s=0.2, total_s=3, tries=4, first_wait_s=0.001, most_wait_s=0.01)
DATA = os.urandom(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
NAME = "wal/0001"
FULL = f"pg/{NAME}"
Opener = Callable[..., Store]

NAMED: dict[FaultKind, type[StoreError]] = {
    "refuse": StoreUnreachable,
    "stall": StoreUnreachable,
    "trickle": StoreUnreachable,
    "reset": StoreUnreachable,
    "lost": StoreUnreachable,
    "unauthorized": StoreRefused,
    "expired": StoreRefused,
    "cap": StoreFull,
    "busy": StoreBusy,
    "unavailable": StoreBusy,
    "html": NotAStore,
    "corrupt": ObjectCorrupt,
    "skew": ClockSkewed,
}


@pytest.fixture(scope="module")
def running() -> Iterator[B2Server]:
    """One server for the file."""
    with b2_server() as server:
        yield server


@pytest.fixture
def server(running: B2Server) -> B2Server:
    """The file's server, with an empty bucket and no faults."""
    running.reset()
    running.empty()
    return running


@pytest.fixture
def opened(server: B2Server) -> Iterator[Opener]:
    """Opens stores in the server's bucket; they are closed at the end."""
    stores: list[Store] = []

    def open_one(
        rights: tuple[str, ...] = DAILY, path: str = "dreamseed/pg", limits: Limits = LIMITS
    ) -> Store:
        settings = StoreSettings(limits=limits, b2_realm=server.url)
        stores.append(open_store(f"b2:{path}", settings, environment=server.environment(rights)))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opener) -> Store:
    """With the daily key, which cannot delete."""
    return opened()


def raised_by(call: Callable[[], object]) -> StoreError | None:
    """The store's error that it ends with; None if it succeeds."""
    try:
        call()
    except StoreError as error:
        return error
    return None


def test_put_and_get(store: Store, server: B2Server, tmp_path: Path) -> None:
    """An object goes up in one call, is looked for before and after, and read back; it comes down hashed."""
    stored = store.put(NAME, DATA)
    assert (stored.name, stored.size, stored.sha256, stored.proof) == (NAME, len(DATA), SHA256, "read_back")
    assert server.calls == [
        *(
            "authorize_account",
            "list_file_versions",
            "get_upload_url",
            "upload",
            "list_file_versions",
            "download",
        )
    ]
    assert server.objects() == {FULL: [DATA]}
    assert store.get(NAME) == store.get(NAME, SHA256) == DATA
    store.fetch(NAME, tmp_path / "part", SHA256)
    assert (tmp_path / "part").read_bytes() == DATA


def test_an_empty_object(store: Store) -> None:
    """No bytes are bytes too."""
    assert store.put(NAME, b"").size == 0
    assert store.get(NAME) == b""


def test_stat_and_list(store: Store, server: B2Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes, sizes and times come with the list, page by page, and nothing outside the prefix."""
    monkeypatch.setattr(b2, "_PAGE", 2)
    for number in range(5):
        store.put(f"wal/{number}", bytes([number]) * (number + 1))
    store.put("other", b"x")
    server.put_foreign("elsewhere/wal/9", b"x")
    listed = list(store.list("wal/"))
    assert [(one.name, one.size) for one in listed] == [(f"wal/{n}", n + 1) for n in range(5)]
    assert listed[2].sha256 == hashlib.sha256(b"\2\2\2").hexdigest()
    assert datetime.now(UTC) - listed[0].uploaded < timedelta(minutes=1)
    assert len(list(store.list(""))) == 6
    assert store.stat("wal/2") == listed[2]
    assert store.stat("wal") is None


def test_the_same_again_sends_nothing(store: Store, server: B2Server) -> None:
    """A repeated put only reads back what is there."""
    store.put(NAME, DATA)
    server.reset()
    assert store.put(NAME, DATA).proof == "read_back"
    assert "upload" not in server.calls
    assert server.objects() == {FULL: [DATA]}


def test_other_bytes_are_refused(store: Store, server: B2Server) -> None:
    """B2 would keep both: we look first, and send nothing."""
    store.put(NAME, DATA)
    server.reset()
    with pytest.raises(ObjectConflict, match=NAME):
        store.put(NAME, flipped(DATA))
    assert "upload" not in server.calls


def test_a_rival_at_the_same_moment_is_seen(store: Store, server: B2Server) -> None:
    """Other bytes that appear between our look and our upload make it fail: none of them is believed."""

    def rival(call: str) -> None:
        if call == "upload":
            server.put_foreign(FULL, b"rival")

    server.failing = rival
    with pytest.raises(ObjectConflict):
        store.put(NAME, DATA)


def test_an_answer_lost_after_the_commit(store: Store, server: B2Server) -> None:
    """The upload is not repeated: the second try finds it, proves it, and one version is all there is."""
    server.faults[3] = Fault("lost")
    assert store.put(NAME, DATA).proof == "read_back"
    assert server.calls.count("upload") == 1
    assert server.objects() == {FULL: [DATA]}


@pytest.mark.parametrize("kind", FAULTS)
def test_one_fault_at_every_call_of_a_put(opened: Opener, server: B2Server, kind: FaultKind) -> None:
    """Wherever it strikes: a put that says it stored has stored, one that fails is named, and the next
    one converges to one name with nothing but the right bytes.
    """
    limits = replace(LIMITS, total_s=1) if kind == "trickle" else LIMITS
    for index in range(6):
        server.reset()
        server.empty()
        server.faults[index] = Fault(kind)
        store = opened(limits=limits)
        error = raised_by(lambda: store.put(NAME, DATA))  # noqa: B023 - called at once
        assert isinstance(error, NAMED[kind] | None), error
        if error is None:
            assert server.objects()[FULL][0] == DATA
        server.reset()
        assert store.put(NAME, DATA).proof == "read_back"
        assert set(server.objects()[FULL]) == {DATA}
        assert store.get(NAME, SHA256) == DATA


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("index", [0, 1])
def test_one_fault_at_every_call_of_a_get(
    opened: Opener, server: B2Server, kind: FaultKind, index: int
) -> None:
    """What comes is right or named, never wrong; and the next get is right."""
    opened().put(NAME, DATA)
    server.reset()
    server.faults[index] = Fault(kind)
    store = opened(limits=replace(LIMITS, total_s=1) if kind == "trickle" else LIMITS)
    got: list[bytes] = []
    error = raised_by(lambda: got.append(store.get(NAME)))
    assert got == [DATA] or isinstance(error, NAMED[kind]), error
    assert store.get(NAME) == DATA


@pytest.mark.parametrize("kind", ["refuse", "stall", "reset", "lost", "expired", "busy", "unavailable"])
def test_one_passing_fault_is_overcome(store: Store, server: B2Server, kind: FaultKind) -> None:
    """What passes by itself costs a try, not the put."""
    server.faults[3] = Fault(kind)
    assert store.put(NAME, DATA).proof == "read_back"


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != "corrupt"])
def test_a_lasting_fault_of_uploads_is_named(opened: Opener, server: B2Server, kind: FaultKind) -> None:
    """A put that cannot succeed fails within its limits, each cause as its own error. Where only the answer
    is lost, the object is there: the next try finds it.
    """
    server.failing = lambda call: Fault(kind) if call == "upload" else None
    store = opened(limits=Limits(2, 0.1, 1.5, 3, 0.001, 0.002))
    if kind in {"lost", "reset", "trickle"}:
        assert store.put(NAME, DATA).proof == "read_back"
        return
    with pytest.raises(StoreError) as caught:
        store.put(NAME, DATA)
    assert isinstance(caught.value, NAMED[kind])
    assert caught.value.place.startswith("b2:dreamseed/pg")
    assert caught.value.remedy


@pytest.mark.parametrize("kind", FAULTS)
def test_a_lasting_fault_of_downloads_is_named(opened: Opener, server: B2Server, kind: FaultKind) -> None:
    """So does a get: nothing that is not right is ever returned."""
    opened().put(NAME, DATA)
    server.failing = lambda call: Fault(kind) if call == "download" else None
    with pytest.raises(StoreError) as caught:
        opened(limits=Limits(2, 0.1, 1.0, 3, 0.001, 0.002)).get(NAME)
    assert isinstance(caught.value, NAMED[kind])


@pytest.mark.parametrize(
    "skew", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=40), timedelta(days=-40)]
)
def test_a_wrong_clock_is_told(store: Store, server: B2Server, skew: timedelta) -> None:
    """An hour or forty days, ahead or behind: told, with by how much."""
    server.failing = lambda _: Fault("skew", skew_s=skew.total_seconds())
    with pytest.raises(ClockSkewed) as caught:
        store.put(NAME, DATA)
    told = re.search(r"clock is ([+-]\d+) s off", caught.value.cause)
    assert told is not None
    assert int(told[1]) == pytest.approx(-skew.total_seconds(), abs=30)


@pytest.mark.parametrize("cap", ["storage", "transaction", "download"])
def test_every_cap_is_told(store: Store, server: B2Server, cap: str) -> None:
    """A cap that the owner set on the account: named, not tried again, since nothing but raising it helps."""
    server.failing = lambda call: Fault("cap", cap=f"{cap}_cap_exceeded") if call == "upload" else None
    with pytest.raises(StoreFull, match=cap):
        store.put(NAME, DATA)
    assert server.calls.count("upload") == 1


def test_a_wish_to_wait_longer_than_we_may(store: Store, server: B2Server) -> None:
    """Retry-After beyond the limit: told at once with the wait, not slept."""
    server.failing = lambda call: Fault("busy", retry_after_s=600) if call == "upload" else None
    with pytest.raises(StoreBusy) as caught:
        store.put(NAME, DATA)
    assert caught.value.wait_s == 600
    assert server.calls.count("upload") == 1


def test_nobody_listens() -> None:
    """A server that is down."""
    with b2_server() as server:
        settings = StoreSettings(limits=LIMITS, b2_realm=server.url)
        store = open_store("b2:dreamseed", settings, environment=server.environment())
    with pytest.raises(StoreUnreachable):
        store.get(NAME)
    store.close()


def test_tokens_that_expire(store: Store, server: B2Server) -> None:
    """After a day all tokens are too old, those of uploads too: new ones are taken, nobody notices."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: store.put(f"wal/{number}", DATA), range(3)))
    server.expire_tokens()
    assert store.get("wal/1") == DATA
    server.expire_tokens()
    assert store.put(NAME, DATA).proof == "read_back"


def test_several_threads(store: Store) -> None:
    """Eight threads share one store: each gets its own bytes stored and back."""
    objects = {f"part/{number:02}": os.urandom(50_000) for number in range(16)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: store.put(*item), objects.items()))
        back = dict(zip(objects, pool.map(store.get, objects), strict=True))
    assert back == objects


def test_the_daily_key_cannot_delete(store: Store, server: B2Server) -> None:
    """A key without the right is refused here already, and the right named; nothing is asked of B2."""
    store.put(NAME, DATA)
    server.reset()
    with pytest.raises(StoreRefused, match="deleteFiles"):
        store.delete(NAME)
    assert "delete_file_version" not in server.calls
    assert store.get(NAME) == DATA


def test_pruning(opened: Opener, server: B2Server) -> None:
    """All versions go, hide markers too, those of longer names do not, and again is fine."""
    store = opened(PRUNE)
    store.put(NAME, DATA)
    store.put(f"{NAME}0", DATA)
    server.hide(FULL)
    store.put(NAME, DATA)
    assert len(store.versions(NAME)) == 3
    store.delete(NAME)
    store.delete(NAME)
    assert store.versions(NAME) == ()
    assert store.get(f"{NAME}0") == DATA


def test_a_lost_answer_to_a_deletion(opened: Opener, server: B2Server) -> None:
    """Deleting twice is deleting."""
    store = opened(PRUNE)
    store.put(NAME, DATA)
    server.reset()
    server.faults[1] = Fault("lost")
    store.delete(NAME)
    assert server.objects() == {}


@pytest.mark.parametrize("rights", [PRUNE, tuple(right for right in PRUNE if "etention" not in right)])
def test_object_lock(opened: Opener, server: B2Server, rights: tuple[str, ...]) -> None:
    """What the bucket's default retention keeps cannot be deleted: named, with its end if it may be read."""
    period = BucketRetentionSetting(RetentionMode.GOVERNANCE, RetentionPeriod(days=30))
    server.bucket.default_retention = period
    store = opened(rights)
    store.put(NAME, DATA)
    may_read = "readFileRetentions" in rights
    assert store.rights().retention == ("governance for 30 days" if may_read else None)
    with pytest.raises(StoreRefused, match="Object Lock keeps it") as caught:
        store.delete(NAME)
    until = datetime.now(UTC) + timedelta(days=30)
    assert (f"governance until {until:%Y-%m-}" in str(caught.value)) is may_read
    assert store.get(NAME) == DATA


def test_lifecycle_rules_that_hide_by_age_are_told(opened: Opener, server: B2Server) -> None:
    """Those that touch our names; not for others' names, nor those that only delete what is hidden."""

    def rule(prefix: str, days: int | None) -> dict[str, object]:
        return {"fileNamePrefix": prefix, "daysFromUploadingToHiding": days, "daysFromHidingToDeleting": 1}

    ours = opened().rights().expiry
    server.bucket.lifecycle_rules = [rule("", 30), rule("pg/wal/", 7), rule("logs/", 3), rule("pg/", None)]
    try:
        found = opened().rights().expiry
        unlisted = opened(tuple(right for right in DAILY if right != "listBuckets")).rights().expiry
    finally:
        server.bucket.lifecycle_rules = []
    assert (ours, unlisted) == ((), ())
    assert found == (
        "names that start with '' are hidden 30 days after their upload",
        "names that start with 'pg/wal/' are hidden 7 days after their upload",
    )


def test_rights_are_told(opened: Opener) -> None:
    """From the key itself, before anything is tried."""
    daily, prune = opened().rights(), opened(PRUNE).rights()
    assert (daily.read, daily.write, daily.list, daily.delete) == (True, True, True, False)
    assert prune.delete
    assert daily.key.startswith("appKeyId")
    assert not opened(("listFiles",)).rights().write


def test_a_key_that_cannot_write(opened: Opener, server: B2Server) -> None:
    """Told as such, not as "too many tries" as the SDK does."""
    with pytest.raises(StoreRefused, match="writeFiles"):
        opened(("listBuckets", "listFiles", "readFiles")).put(NAME, DATA)
    assert server.objects() == {}


def test_wrong_keys(server: B2Server) -> None:
    """A wrong key, a key for other names and one for another bucket are refused, and no key is shown."""
    key_id, key = server.new_key(prefix="logs/")
    settings = StoreSettings(limits=LIMITS, b2_realm=server.url)
    cases = [
        ("b2:dreamseed", "nobody", "hush", "not accepted"),
        ("b2:dreamseed", key_id, "hush", "not accepted"),
        ("b2:dreamseed/pg", key_id, key, "start with 'logs/'"),
        ("b2:elsewhere/logs", key_id, key, "other buckets"),
    ]
    for url, used_id, used, message in cases:
        environment = {"DREAMSEED_B2_KEY_ID": used_id, "DREAMSEED_B2_KEY": used}
        store = open_store(url, settings, environment=environment)
        with pytest.raises(StoreRefused, match=message) as caught:
            store.put(NAME, DATA)
        assert used not in str(caught.value)
        store.close()


def test_a_bucket_that_is_not_there(server: B2Server) -> None:
    """With a key for all buckets, a wrong name is told."""
    environment = dict(zip(("DREAMSEED_B2_KEY_ID", "DREAMSEED_B2_KEY"), server.master, strict=True))
    settings = StoreSettings(limits=LIMITS, b2_realm=server.url)
    store = open_store("b2:nowhere", settings, environment=environment)
    with pytest.raises(StoreAbsent, match="no such bucket"):
        store.stat(NAME)
    store.close()
    store = open_store("b2:dreamseed", settings, environment=environment)
    assert store.stat(NAME) is None
    store.close()


def test_a_flipped_bit_in_the_bucket(store: Store, server: B2Server) -> None:
    """Found by get, from the hash that is kept with it, and by putting the same again."""
    store.put(NAME, DATA)
    server.damage(FULL)
    with pytest.raises(ObjectCorrupt):
        store.get(NAME)
    with pytest.raises(ObjectCorrupt):
        store.put(NAME, DATA)


def test_a_hidden_object(store: Store, server: B2Server) -> None:
    """A reader does not see it, `versions` does, and other bytes still may not take its name."""
    store.put(NAME, DATA)
    server.hide(FULL)
    assert store.stat(NAME) is None
    assert list(store.list("")) == []
    with pytest.raises(ObjectMissing):
        store.get(NAME)
    assert [version.marker for version in store.versions(NAME)] == [True, False]
    with pytest.raises(ObjectConflict):
        store.put(NAME, b"other")
    store.put(NAME, DATA)
    assert store.get(NAME) == DATA


def test_unfinished_large_files_are_cancelled(store: Store, server: B2Server) -> None:
    """Those below our prefix that are old enough; they show in no list."""
    for name in ("pg/a", "pg/b", "elsewhere"):
        server.start_large_file(name)
    now = datetime.now(UTC)
    assert list(store.list("")) == []
    assert store.cancel_unfinished(86_400, now) == 0
    assert store.cancel_unfinished(86_400, now + timedelta(days=2)) == 2
    assert store.cancel_unfinished(86_400, now + timedelta(days=2)) == 0
