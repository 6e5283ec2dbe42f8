"""Where clients belong: turned to the replica after a true failure, never by a blip, never flapping."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.database.standby.seen import Role, Seen
from dreamseed_cli.database.standby.watch import Mode, Patience, Sight, Watch

_PATIENCE = Patience(down_s=15.0, back_s=60.0, most_back_s=600.0, gap_s=12.0)
_STANDBY = Seen(Role.STANDBY, "7")


def _watch() -> Watch:
    """One that knows its cluster from an earlier run."""
    return Watch(_PATIENCE, system="7")


def sight(primary: Role, replica: Seen = _STANDBY) -> Sight:
    """The primary in a role, beside a replica."""
    return Sight(Seen(primary, "" if primary is Role.AWAY else "7"), replica)


def see(watch: Watch, primary: Role, begin: float, end: float, replica: Seen = _STANDBY) -> Mode:
    """The same every two seconds."""
    now = begin
    while now <= end:
        watch.see(sight(primary, replica), now)
        now += 2.0
    return watch.mode


def test_it_turns_to_the_replica_after_a_failure_without_a_break() -> None:
    """Not before `down_s`, and not if one answer came in between."""
    watch = _watch()
    assert see(watch, Role.PRIMARY, 0, 10) is Mode.PRIMARY
    assert see(watch, Role.AWAY, 12, 24) is Mode.PRIMARY
    assert see(watch, Role.PRIMARY, 26, 26) is Mode.PRIMARY
    assert see(watch, Role.AWAY, 28, 42) is Mode.PRIMARY
    assert see(watch, Role.AWAY, 44, 44) is Mode.REPLICA


def test_it_turns_back_once_the_primary_is_well_and_waits_longer_each_time() -> None:
    """Sixty seconds, then a hundred and twenty."""
    watch = _watch()
    assert see(watch, Role.AWAY, 0, 16) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 18, 76) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 78, 78) is Mode.PRIMARY
    assert watch.back_after_s == 120.0
    assert see(watch, Role.AWAY, 80, 96) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 98, 216) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 218, 218) is Mode.PRIMARY
    see(watch, Role.PRIMARY, 220, 1000)
    assert watch.back_after_s == 60.0


def test_it_turns_back_soon_if_the_replica_dies_while_the_primary_is_well() -> None:
    """However long it has learnt to wait: at the replica clients have nothing. A blip of it is no reason."""
    watch = _watch()
    assert see(watch, Role.AWAY, 0, 16) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 18, 40) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 42, 56, Seen(Role.AWAY)) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 58, 58) is Mode.REPLICA
    assert see(watch, Role.AWAY, 60, 80, Seen(Role.AWAY)) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 82, 96, Seen(Role.AWAY)) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 98, 98, Seen(Role.AWAY)) is Mode.PRIMARY


def test_without_a_replica_that_fits_it_stays() -> None:
    """One that is away, or of another cluster, helps nobody."""
    watch = _watch()
    assert see(watch, Role.AWAY, 0, 100, Seen(Role.AWAY)) is Mode.PRIMARY
    watch = _watch()
    see(watch, Role.PRIMARY, 0, 2)
    assert see(watch, Role.AWAY, 4, 100, Seen(Role.STANDBY, "8")) is Mode.PRIMARY


def test_a_watch_that_never_learnt_its_cluster_turns_to_nobody_and_says_so() -> None:
    """The replica's address may lead to another's. One word of the primary, and it knows for good."""
    watch = Watch(_PATIENCE)
    assert see(watch, Role.AWAY, 0, 100) is Mode.PRIMARY
    assert watch.stranded.startswith("nothing here knows the primary's cluster")
    assert see(watch, Role.AWAY, 102, 200, Seen(Role.PRIMARY, "7")) is Mode.PRIMARY
    assert see(watch, Role.PRIMARY, 202, 202) is Mode.PRIMARY
    assert watch.stranded == ""
    assert see(watch, Role.AWAY, 204, 220) is Mode.REPLICA
    assert watch.system == "7"


def test_clients_without_a_database_are_told_of_with_the_reason() -> None:
    """After `down_s`, wherever they are sent; and that they have one again."""
    stranger = Seen(Role.STANDBY, "8")
    watch, told = _watch(), []
    for primary, replica, begin, end in (
        (Role.AWAY, Seen(Role.AWAY), 0, 12),
        (Role.AWAY, Seen(Role.AWAY), 14, 16),
        (Role.AWAY, stranger, 18, 18),
        (Role.PRIMARY, stranger, 20, 40),
        (Role.AWAY, _STANDBY, 42, 60),
        (Role.AWAY, Seen(Role.FENCED, "7"), 62, 80),
        (Role.AWAY, Seen(Role.PRIMARY, "7"), 82, 82),
        (Role.PRIMARY, Seen(Role.AWAY), 84, 120),
    ):
        see(watch, primary, begin, end, replica)
        told.append(watch.stranded)
    assert watch.mode is Mode.PROMOTED
    other = "the replica is of another cluster, 8, and the primary's is 7"
    away, fenced = "the replica is away", "the replica is a fenced primary"
    assert told == ["", away, other, "", "", fenced, "", away]


def test_a_promotion_is_for_good() -> None:
    """The old primary's return changes nothing, but that two take writes is told."""
    watch, split = _watch(), []
    promoted = Seen(Role.PRIMARY, "7")
    for primary, replica, begin, end in (
        (Role.AWAY, promoted, 0, 16),
        (Role.PRIMARY, promoted, 18, 500),
        (Role.PRIMARY, Seen(Role.AWAY), 502, 900),
    ):
        assert see(watch, primary, begin, end, replica) is Mode.PROMOTED
        assert watch.turns == 1
        split.append(watch.split)
    assert split == [False, True, False]


def test_a_promotion_beside_a_primary_that_is_well_takes_no_clients() -> None:
    """It is told; a single lost answer changes nothing. Once the primary is gone they go there."""
    watch, promoted = _watch(), Seen(Role.PRIMARY, "7")
    assert see(watch, Role.PRIMARY, 0, 100, promoted) is Mode.PRIMARY
    assert watch.split
    assert see(watch, Role.AWAY, 102, 102, promoted) is Mode.PRIMARY
    assert see(watch, Role.PRIMARY, 104, 104, promoted) is Mode.PRIMARY
    assert see(watch, Role.AWAY, 106, 122, promoted) is Mode.PROMOTED


def test_a_promotion_where_clients_are_already_is_gone_by_at_once() -> None:
    """They write there from that moment, whoever else came back."""
    watch = _watch()
    assert see(watch, Role.AWAY, 0, 16) is Mode.REPLICA
    assert see(watch, Role.PRIMARY, 18, 18, Seen(Role.PRIMARY, "7")) is Mode.PROMOTED
    assert watch.split


def test_another_clusters_primary_gets_no_clients() -> None:
    """A wrong address, or a folder made anew: not beside a primary that is well, nor after it."""
    stranger = Seen(Role.PRIMARY, "8")
    watch = _watch()
    assert see(watch, Role.PRIMARY, 0, 100, stranger) is Mode.PRIMARY
    assert not watch.split
    assert see(watch, Role.AWAY, 102, 200, stranger) is Mode.PRIMARY
    watch = _watch()
    see(watch, Role.PRIMARY, 0, 0)
    assert see(watch, Role.AWAY, 2, 18) is Mode.REPLICA
    assert see(watch, Role.AWAY, 20, 100, stranger) is Mode.REPLICA


def test_a_way_back_that_broke_off_is_told() -> None:
    """Not one that is under way; the clients stay until a person's command."""
    watch, fenced, told = Watch(_PATIENCE, Mode.PROMOTED, "7"), Seen(Role.FENCED, "7"), []
    for primary, replica, begin, end in (
        (Role.STANDBY, fenced, 0, 100),
        (Role.PRIMARY, fenced, 102, 116),
        (Role.PRIMARY, fenced, 118, 118),
        (Role.FENCED, fenced, 120, 120),
        (Role.PRIMARY, _STANDBY, 122, 122),
    ):
        assert see(watch, primary, begin, end, replica) is Mode.PROMOTED
        told.append(watch.broken_off)
    assert told == [False, False, True, True, False]


def test_a_primary_that_takes_no_writes_is_not_well() -> None:
    """A standby in its place, or one that is fenced."""
    assert see(_watch(), Role.FENCED, 0, 16) is Mode.REPLICA
    assert see(_watch(), Role.STANDBY, 0, 16) is Mode.REPLICA


def test_our_own_sleep_is_not_the_primarys_failure() -> None:
    """Away before and after a pause of the watcher says nothing about the time between."""
    watch = _watch()
    watch.see(sight(Role.AWAY), 0.0)
    assert watch.see(sight(Role.AWAY), 100.0) is Mode.PRIMARY


@given(st.lists(st.sampled_from(list(Role)), max_size=300))
def test_it_never_promotes_and_never_flaps(roles: list[Role]) -> None:
    """Whatever the primary does: each turn back waited, and twice as long as the one before."""
    watch, turned = _watch(), [0.0]
    for index, role in enumerate(roles):
        before, now = watch.mode, 2.0 * index
        mode = watch.see(sight(role), now)
        assert mode is not Mode.PROMOTED
        if mode is not before:
            wait = _PATIENCE.down_s if mode is Mode.REPLICA else _PATIENCE.back_s
            assert now - turned[-1] >= wait
            turned.append(now)
    assert watch.turns == len(turned) - 1
    assert watch.turns <= 2.0 * len(roles) / (_PATIENCE.down_s + _PATIENCE.back_s) * 2 + 1
