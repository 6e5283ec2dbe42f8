"""Retention: what may never be deleted, on random histories with failing runs and jumping clocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from math import prod
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup.manifest import Level
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.retention import (
    Backup,
    Decision,
    Rules,
    delete_by_age_alone,
    plan,
    stale_leftovers,
)
from dreamseed_cli.backup.wal_names import SegmentRange, WalFile, WalSegment, parse_wal_file
from dreamseed_cli.core.errors import UsageError

START = datetime(2025, 11, 10, 3, tzinfo=UTC)
DAY = timedelta(days=1)
HISTORIES = 10_000
SEGMENTS_A_DAY = 4


def backup(day: float, **changes: object) -> Backup:
    """A physical backup of so many days after START; its sequence number is its day's."""
    number = int(day) + 1
    wal = SegmentRange(number * SEGMENTS_A_DAY, number * SEGMENTS_A_DAY + 1)
    made = Backup(f"b{number:04d}", number, Kind.PHYSICAL, START + day * DAY, Level.REREAD, wal)
    return replace(made, **changes)  # type: ignore[arg-type]


@cache
def segment(number: int, timeline: int = 1) -> WalFile:
    """An archived segment."""
    return parse_wal_file(WalSegment(timeline, number).name)


def archive(first: int, last: int, timeline: int = 1) -> list[WalFile]:
    """Archived segments from first to last."""
    return [segment(number, timeline) for number in range(first, last + 1)]


def decided(backups: list[Backup], day: float, rules: Rules | None = None, **more: object) -> Decision:
    """A decision so many days after START, with WAL from the beginning."""
    wal = archive(0, int(day + 2) * SEGMENTS_A_DAY)
    settled = {"pins": set(), "last_run_failed": False} | more
    return plan(backups, wal, rules=rules or Rules(), now=START + day * DAY, **settled)  # type: ignore[arg-type]


# The document's rule against this one (contradiction 11).


def test_the_documents_rule_deletes_the_last_good_backup_and_this_one_does_not() -> None:
    """§E2 deletes by age alone: one good backup, then a month of failing nights, and it is gone."""
    only = backup(0)
    for night in range(1, 32):
        now = START + night * DAY + timedelta(hours=1)
        gone = delete_by_age_alone([only], 30, now)
        assert gone == ({only.id} if night >= 30 else set())
        for failed in (True, False):
            decision = plan([only], archive(SEGMENTS_A_DAY, 200), set(), Rules(), now, last_run_failed=failed)
            assert (decision.delete, decision.wal_delete) == ({}, ())


# The rules.


def test_old_backups_go_and_each_says_why() -> None:
    """By age alone (no daily, weekly, monthly): 31 days and younger stay, with the point-in-time base."""
    rules = Rules(days=30, daily=0, weekly=0, monthly=0)
    decision = decided([backup(day) for day in range(60)], 59, rules)
    assert sorted(decision.delete) == [f"b{number:04d}" for number in range(1, 30)]
    assert decision.delete["b0001"] == "59 days old, and no rule keeps it"
    assert decision.keep["b0060"][:2] == (
        "the newest physical backup",
        "the newest physical backup proven to be uploaded-and-reread",
    )


def test_days_weeks_and_months_keep_the_newest_of_each() -> None:
    """Beyond the age rule, one a day, a week and a month, counted over those that have a backup."""
    rules = Rules(days=0, daily=3, weekly=2, monthly=3, point_in_time_days=None)
    decision = decided([backup(day) for day in range(100)], 99, rules)
    days = {(START + (int(id_[1:]) - 1) * DAY).strftime("%m-%d") for id_ in decision.keep}
    # Day 99 is Tuesday, 17 February 2026; the week before ends on Sunday the 15th.
    assert days == {"02-17", "02-16", "02-15", "01-31", "12-31"}


def test_each_kind_has_its_own_slots() -> None:
    """A nightly dump does not take the place of the weekly physical backup that recovery needs."""
    dumps = [
        backup(day, id=f"d{day}", kind=Kind.LOGICAL, wal=None, sequence=2 * day + 2) for day in range(1, 60)
    ]
    bases = [backup(day, sequence=2 * day + 1) for day in range(0, 60, 7)]
    rules = Rules(0, daily=2, weekly=0, monthly=0, point_in_time_days=None)
    kept = decided(dumps + bases, 60, rules).keep
    assert set(kept) == {"d59", "d58", bases[-1].id, bases[-2].id}


def test_the_promised_time_has_a_base_older_than_itself() -> None:
    """A moment 30 days ago is reached from a backup before it: that one stays, and all WAL from it on."""
    rules = Rules(days=30, daily=0, weekly=0, monthly=0, point_in_time_days=30)
    weekly = [backup(day) for day in range(0, 71, 7)]
    decision = decided(weekly, 70, rules)
    base = backup(35)
    assert "begins the 30 days of point-in-time recovery" in decision.keep[base.id]
    assert base.wal is not None
    assert decision.wal_needed_from == base.wal.first
    assert len(decision.wal_delete) == base.wal.first


def test_an_old_pinned_backup_keeps_what_makes_it_consistent() -> None:
    """Its own WAL stays, the year behind it does not; with no time promised, all of it stays."""
    backups = [backup(0), *(backup(day) for day in range(300, 365))]
    decision = decided(backups, 364, pins={backup(0).id})
    own = backup(0).wal
    assert own is not None
    assert decision.keep[backup(0).id][0] == "pinned"
    assert decision.wal_needed[0] == own
    assert segment(own.last).name not in decision.wal_delete
    assert segment(own.last + 1).name in decision.wal_delete
    whole = decided(backups, 364, Rules(point_in_time_days=None), pins={backup(0).id})
    assert whole.wal_needed_from == own.first


def test_histories_stay_and_numbers_bound_every_timeline() -> None:
    """History files stay; segments, labels and partial files of any timeline go below the bound."""
    wal = [
        parse_wal_file(name)
        for name in (
            "00000002.history",
            "000000010000000000000001",
            "000000010000000000000001.00000028.backup",
            "000000010000000000000002.partial",
            "0000000200000000000000FE",
        )
    ]
    decision = plan([backup(9)], wal, set(), Rules(), START + 9 * DAY)
    assert decision.wal_delete == tuple(file.name for file in wal[1:4])


def test_no_wal_goes_by_another_clusters_numbers() -> None:
    """A cluster made anew begins at low numbers: the old one's bound is none for it, and each keeps its own
    newest backup; nor does any WAL go before the new one's first physical backup.
    """
    old = [backup(day, cluster="old") for day in range(1000, 1055)]
    new = [
        backup(day, cluster="new", id=f"n{day}", sequence=2000 + day, wal=SegmentRange(day, day + 1))
        for day in range(1056, 1061)
    ]
    wal = [*archive(1, 1100), *archive(4000, 4300)]
    rules, now = Rules(), START + 1061 * DAY
    both = plan([*old, *new], wal, set(), rules, now)
    assert new[0].wal is not None
    assert both.wal_delete == tuple(segment(number).name for number in range(1, new[0].wal.first))
    assert {old[-1].id, new[-1].id} <= both.keep.keys()
    under_way = plan(old, wal, set(), rules, now - 2 * DAY, owners={"new"})
    assert (under_way.held, under_way.wal_delete) == ("", ())
    assert plan(old, wal, set(), rules, now - 2 * DAY, owners={"old"}).wal_delete[0] == segment(1).name


def test_an_old_clusters_dumps_hold_no_wal() -> None:
    """They need none, and it archives none: the new one's goes by its own bound."""
    dump = backup(0, kind=Kind.LOGICAL, wal=None, cluster="old")
    new = [backup(day, cluster="new") for day in range(60)]
    decision = plan([dump, *new], archive(0, 240), set(), Rules(), START + 60 * DAY, owners={"new"})
    assert decision.wal_delete
    assert dump.id in decision.keep


def test_a_promise_that_the_rules_cannot_keep_is_refused() -> None:
    """Bases that are deleted young never grow old enough to begin the promised time."""
    with pytest.raises(UsageError, match="over 30 days needs backups as old"):
        Rules(days=7, point_in_time_days=30)


def test_without_a_physical_backup_no_wal_goes() -> None:
    """The first physical backup may be under way: its WAL is there before its manifest."""
    dump = backup(5, kind=Kind.LOGICAL, wal=None)
    decision = plan([dump], archive(0, 50), set(), Rules(), START + 5 * DAY)
    assert (decision.wal_needed_from, decision.wal_delete) == (None, ())


def test_a_last_proven_backup_outlives_every_rule() -> None:
    """The only one that was ever restored stays, however old, as does the newest of each lower level."""
    backups = [backup(day) for day in range(100)]
    backups[3] = backup(3, level=Level.DIGESTS_EQUAL)
    backups[9] = backup(9, level=Level.RESTORED)
    keep = decided(backups, 99).keep
    assert keep["b0004"] == ("the newest physical backup proven to be restored-and-digests-equal",)
    assert keep["b0010"] == ("the newest physical backup proven to be restored",)


def test_the_only_backup_stays_though_nothing_proves_it() -> None:
    """Unverified is better than none."""
    decision = decided([backup(0, level=Level.NONE), backup(1, level=Level.NONE)], 2, Rules(0, 0, 0, 0, None))
    assert set(decision.keep) == {"b0002"}


def test_no_backup_at_all_deletes_nothing() -> None:
    """WAL without a base stays: the base may be damaged, and mended."""
    decision = decided([], 50)
    assert decision.wal_delete == ()
    assert "no good backup" in decision.held


@pytest.mark.parametrize(("hours", "word"), [(-1, "behind"), (-960, "behind"), (960, "ahead")])
def test_a_jumping_clock_deletes_nothing_and_is_told(hours: float, word: str) -> None:
    """An hour or 40 days back, 40 days ahead: everything is kept, and the reason names the clock."""
    decision = decided([backup(day) for day in range(60)], 59 + hours / 24)
    assert (decision.delete, decision.wal_delete) == ({}, ())
    assert word in decision.held
    assert set(decision.keep.values()) == {(decision.held,)}


def test_a_backup_made_while_the_clock_is_ahead_does_not_unlock_deletion() -> None:
    """The nightly run itself made one at the wrong time: the others only look 40 days older."""
    backups = [*(backup(day) for day in range(35)), backup(75, sequence=36)]
    assert decided(backups, 75).delete == {}


def test_a_backup_made_while_the_clock_was_behind_is_not_taken_for_old() -> None:
    """Made on day 50 with the clock on day 10: it is judged by its place, not by its stamp."""
    backups = [backup(day) for day in range(60)]
    backups[50] = backup(50, started=START + 10 * DAY)
    decision = decided(backups, 59, Rules(days=30, daily=0, weekly=0, monthly=0))
    assert "b0051" in decision.keep


def test_leftovers_are_those_that_uploaded_nothing_for_a_day() -> None:
    """A long run still uploads; a dead one does not."""
    uploads = {"dead": START, "running": START + 2 * DAY}
    assert stale_leftovers(uploads, START + 2.5 * DAY) == ["dead"]


# Random histories.


@dataclass(frozen=True)
class Night:
    """What happens until the next prune. clock: how far the host's clock is off then."""

    days: float
    kind: Kind
    fails: bool
    clock: timedelta
    proves: Level | None
    pins: bool
    cluster: str = "a"
    forks: bool = False


_SPREADS = 2654435761
"""A prime (Knuth's for multiplicative hashing)."""


def one_of_all(made: Callable[..., Any], **choices: Sequence[object]) -> st.SearchStrategy[Any]:
    """What `made` makes of one of each of these: by a single draw, for a draw takes as long as a prune. Small
    numbers, of which Hypothesis draws more, are spread over all choices; 0 is the first of each.
    """
    combinations = prod(map(len, choices.values()))

    def pick(number: int) -> Any:
        picked, number = {}, number * _SPREADS % combinations
        for name, values in choices.items():
            number, index = divmod(number, len(values))
            picked[name] = values[index]
        return made(**picked)

    return st.integers(0, combinations - 1).map(pick)


NIGHTS = one_of_all(
    Night,
    days=[0.5, 1.0, 1.0, 1.0, 2.0, 7.0, 9.0],
    kind=[Kind.PHYSICAL, Kind.PHYSICAL, Kind.LOGICAL],
    fails=[False, False, False, True],
    clock=[timedelta()] * 20 + [timedelta(hours=h) for h in (-1, 1, -960, 960)],
    proves=[None, None, None, *Level],
    pins=[False] * 9 + [True],
    cluster=["a", "a", "a", "b"],
    forks=[False] * 7 + [True],
)
RULES = st.builds(
    lambda days, daily, weekly, monthly, promised: Rules(
        days, daily, weekly, monthly, None if promised is None else min(promised, days)
    ),
    days=st.sampled_from([0, 3, 7, 30]),
    daily=st.integers(0, 4),
    weekly=st.integers(0, 3),
    monthly=st.integers(0, 2),
    promised=st.sampled_from([None, 1, 7, 30]),
)
LEVELS = list(Level)


@dataclass
class Step:
    """A prune: what was there, when by the true clock and by the host's, and what was decided."""

    backups: list[Backup]
    true_moments: dict[str, datetime]
    wal: list[WalFile]
    pins: set[str]
    rules: Rules
    now: datetime
    clock: timedelta
    trusted: bool
    clocks_right: bool
    first_bases: dict[str, str]
    failed: bool
    owners: set[str]
    decision: Decision

    @property
    def ordered(self) -> list[Backup]:
        return sorted(self.backups, key=lambda made: made.sequence)

    @property
    def kept(self) -> list[Backup]:
        return [made for made in self.ordered if made.id in self.decision.keep]

    @property
    def clock_was_behind_first(self) -> bool:
        """Whether the oldest backup left was made by a clock far behind: no older one shows that."""
        first = self.ordered[0] if self.backups else None
        return first is not None and first.started < self.true_moments[first.id] - DAY

    def kept_numbers(self, cluster: str) -> set[int]:
        gone = set(self.decision.wal_delete)
        return {
            file.segment.number
            for file in self.wal
            if file.segment and file.name not in gone and is_of(file, cluster)
        }


FIRST_TIMELINES = {"a": 1, "b": 1001}
"""Of two clusters in one store, so that a file's name tells these tests, and nobody else, whose it is."""
FIRST_SEGMENTS = {"a": 60, "b": 1}
"""The second one begins far below the first, as one made anew does."""


def is_of(file: WalFile, cluster: str) -> bool:
    """Whose file it is."""
    return (file.timeline >= FIRST_TIMELINES["b"]) == (cluster == "b")


@dataclass
class World:
    """Clusters that share a store, on a host whose clock may be wrong; prunes are carried out. Each night one
    of them writes, may be promoted to a new timeline, and is backed up.
    """

    rules: Rules
    now: datetime = START
    backups: list[Backup] = field(default_factory=list)
    true_moments: dict[str, datetime] = field(default_factory=dict)
    wal: list[WalFile] = field(default_factory=list)
    pins: set[str] = field(default_factory=set)
    next_segments: dict[str, int] = field(default_factory=lambda: dict(FIRST_SEGMENTS))
    timelines: dict[str, int] = field(default_factory=lambda: dict(FIRST_TIMELINES))
    owners: set[str] = field(default_factory=set)
    runs: int = 0
    trusted: bool = True
    """Until the night after a backup was made by a clock days ahead: from then on ages may be wrong."""
    first_bases: dict[str, str] = field(default_factory=dict)
    """The first physical backup there ever was of each cluster: nothing before it can be restored."""
    clocks_right: bool = True
    """Until the first night with a clock that is days off."""

    def live(self, night: Night) -> Step:
        trusted = self.trusted
        self.clocks_right = self.clocks_right and abs(night.clock) < DAY
        self.trusted = trusted and (night.fails or night.clock < DAY)
        self.now += night.days * DAY
        self._archive(night)
        if not night.fails:
            self._back_up(night)
        if night.proves and self.backups:
            self.backups[-1] = replace(self.backups[-1], level=night.proves)
        if night.pins and self.backups:
            self.pins.add(self.backups[len(self.backups) // 2].id)
        return self._prune(night, trusted=trusted)

    def _archive(self, night: Night) -> None:
        begun = self.next_segments[night.cluster]
        if night.forks:
            self.timelines[night.cluster] += 1
            begun -= 1  # the segment with the fork is on both
        grown = self.next_segments[night.cluster] + max(1, int(night.days * SEGMENTS_A_DAY))
        self.wal += archive(begun, grown - 1, self.timelines[night.cluster])
        self.next_segments[night.cluster] = grown
        self.owners.add(night.cluster)

    def _back_up(self, night: Night) -> None:
        self.runs += 1
        last = self.next_segments[night.cluster] - 1
        wal = SegmentRange(last, last)
        made = Backup(
            id=f"b{self.runs:04d}",
            sequence=max((made.sequence for made in self.backups), default=0) + 1,
            kind=night.kind,
            started=self.now + night.clock,
            level=Level.REREAD,
            wal=wal if night.kind is Kind.PHYSICAL else None,
            cluster=night.cluster,
        )
        self.backups.append(made)
        if made.wal:
            self.first_bases.setdefault(night.cluster, made.id)
        self.true_moments[made.id] = self.now

    def _prune(self, night: Night, *, trusted: bool) -> Step:
        clock = self.now + night.clock
        decision = plan(
            self.backups,
            self.wal,
            self.pins,
            self.rules,
            clock,
            last_run_failed=night.fails,
            owners=self.owners,
        )
        step = Step(
            self.backups,
            self.true_moments,
            self.wal,
            set(self.pins),
            self.rules,
            self.now,
            night.clock,
            trusted,
            self.clocks_right,
            dict(self.first_bases),
            night.fails,
            set(self.owners),
            decision,
        )
        self.backups = step.kept
        gone = set(decision.wal_delete)
        self.wal = [file for file in self.wal if file.name not in gone]
        return step


def everything_is_decided_once_and_says_why(step: Step) -> bool:
    """No backup is forgotten, none is kept and deleted."""
    keep, delete = step.decision.keep, step.decision.delete
    whole = {made.id for made in step.backups} == keep.keys() | delete.keys()
    return whole and not keep.keys() & delete.keys() and all(keep.values()) and all(delete.values())


def the_newest_of_each_kind_stays(step: Step) -> bool:
    """By sequence number."""
    newest = {(made.cluster, made.kind): made.id for made in step.ordered}
    return all(id_ in step.decision.keep for id_ in newest.values())


def the_last_proven_to_each_level_stays(step: Step) -> bool:
    """For each cluster and kind."""
    last = {
        (made.cluster, made.kind, level): made.id
        for made in step.ordered
        for level in LEVELS[1 : made.level.rank + 1]
    }
    return step.decision.keep.keys() >= set(last.values())


def pins_stay(step: Step) -> bool:
    """Whatever their age."""
    return step.pins & {made.id for made in step.backups} <= step.decision.keep.keys()


def a_kept_backup_keeps_its_wal(step: Step) -> bool:
    """What makes it consistent."""
    names = set(step.decision.wal_delete)
    gone = {
        (file.segment.number, is_of(file, "b")) for file in step.wal if file.segment and file.name in names
    }
    needed = {
        (number, made.cluster == "b")
        for made in step.kept
        if made.wal
        for number in range(made.wal.first, made.wal.last + 1)
    }
    return not needed & gone


def every_moment_of_the_promised_time_can_be_restored(step: Step) -> bool:
    """Of each cluster: a base from before it, and every segment from its first on; with clocks an hour off at
    most.
    """
    return not step.clocks_right or all(_can_be_restored(step, cluster) for cluster in step.first_bases)


def _can_be_restored(step: Step, cluster: str) -> bool:
    days = step.rules.point_in_time_days
    bases = [made for made in step.kept if made.wal and made.cluster == cluster]
    if not bases:
        return False
    if days is not None:
        since = step.now - timedelta(days=days, hours=-2)
        older = [made for made in bases if step.true_moments[made.id] <= since]
        if not older and bases[0].id != step.first_bases[cluster]:
            return False
        bases = older[-1:] or bases
    wal = bases[0].wal
    newest = max(file.segment.number for file in step.wal if file.segment and is_of(file, cluster))
    return wal is not None and step.kept_numbers(cluster).issuperset(range(wal.first, newest + 1))


def a_cluster_without_a_base_loses_no_wal(step: Step) -> bool:
    """Its first physical backup may be under way."""
    without = step.owners - {made.cluster for made in step.backups if made.wal}
    return not without or not step.decision.wal_delete


def a_failed_run_deletes_nothing(step: Step) -> bool:
    """Nor any WAL."""
    return not step.failed or not (step.decision.delete or step.decision.wal_delete)


def a_clock_that_jumped_far_deletes_nothing(step: Step) -> bool:
    """And says so, on the night of the jump: all other backups, the newest not old, had it right."""
    others = [made for made in step.ordered if step.true_moments[made.id] < step.now]
    right = all(abs(made.started - step.true_moments[made.id]) < DAY for made in others)
    recent = bool(others) and step.now - step.true_moments[others[-1].id] <= 8 * DAY
    jumped = abs(step.clock) > DAY and right and recent
    held = not (step.decision.delete or step.decision.wal_delete)
    return not jumped or (held and bool(step.decision.held))


def nothing_young_goes(step: Step) -> bool:
    """By the true clock, an hour's error aside, unless no backup left shows that a clock was wrong."""
    young = timedelta(days=step.rules.days, hours=-2)
    shown = step.trusted and not step.clock_was_behind_first
    return not shown or all(step.now - step.true_moments[id_] >= young for id_ in step.decision.delete)


def pruning_again_deletes_nothing_more(step: Step) -> bool:
    """What stays is settled, with clocks an hour off at most."""
    if not step.clocks_right:
        return True  # what went may have been what showed that a clock was wrong
    gone = set(step.decision.wal_delete)
    left = [file for file in step.wal if file.name not in gone]
    again = plan(
        step.kept,
        left,
        step.pins,
        step.rules,
        step.now + step.clock,
        last_run_failed=step.failed,
        owners=step.owners,
    )
    return not again.delete and not again.wal_delete


def one_that_stays_after_all_frees_nothing(step: Step) -> bool:
    """A pin that came late, or Object Lock: decided again with it, all that was to stay still does, and what
    it needs; nothing more goes, which may be gone already or not.
    """
    if not step.decision.delete:
        return True
    late = max(step.decision.delete)
    again = plan(
        step.backups,
        step.wal,
        step.pins | {late},
        step.rules,
        step.now + step.clock,
        last_run_failed=step.failed,
        owners=step.owners,
    )
    same = set(again.keep) == {*step.decision.keep, late}
    return (
        same
        and set(again.wal_delete) <= set(step.decision.wal_delete)
        and a_kept_backup_keeps_its_wal(replace(step, decision=again))
    )


LAWS: list[Callable[[Step], bool]] = [
    everything_is_decided_once_and_says_why,
    the_newest_of_each_kind_stays,
    the_last_proven_to_each_level_stays,
    pins_stay,
    a_kept_backup_keeps_its_wal,
    every_moment_of_the_promised_time_can_be_restored,
    a_cluster_without_a_base_loses_no_wal,
    a_failed_run_deletes_nothing,
    a_clock_that_jumped_far_deletes_nothing,
    nothing_young_goes,
    pruning_again_deletes_nothing_more,
    one_that_stays_after_all_frees_nothing,
]


@pytest.mark.no_cover  # the others of this file run the same lines
@given(rules=RULES, nights=st.lists(NIGHTS, min_size=1, max_size=20))
@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_history_breaks_a_law(rules: Rules, nights: list[Night]) -> None:
    """After every night of every history every law holds; what a prune deletes is gone for the next."""
    world = World(rules)
    for number, night in enumerate(nights):
        step = world.live(night)
        broken = [law.__name__ for law in LAWS if not law(step)]
        assert not broken, f"night {number}: {', '.join(broken)}"


def test_histories_do_delete() -> None:
    """The laws are not kept by never deleting: a year of good nights leaves a few dozen backups."""
    world = World(Rules())
    quiet = Night(1.0, Kind.PHYSICAL, fails=False, clock=timedelta(), proves=None, pins=False)
    for _ in range(365):
        world.live(quiet)
    assert 31 <= len(world.backups) <= 31 + 4 + 6
    assert len(world.wal) <= 33 * SEGMENTS_A_DAY + 10
