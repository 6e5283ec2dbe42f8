"""Whose a store is. WAL has no cluster in its names: two clusters in one store would mix up each other's.

A physical backup and a pushed segment claim the store with an empty object of the cluster's identifier. A
logical backup is whole by itself, and a cluster restored from one has a new identifier: it is made whatever
the store holds, and what is wrong is told beside it. A promoted standby has its primary's identifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dreamseed_cli.backup.catalog import Entry
from dreamseed_cli.backup.names import CLUSTERS, Kind, NameInvalid, cluster_name, parse_cluster
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.wal.segment import OtherCluster


def owners(store: Store) -> frozenset[str]:
    """The identifiers of the clusters that claimed the store: one, or none."""
    found = set()
    for stored in store.list(CLUSTERS):
        try:
            found.add(parse_cluster(stored.name))
        except NameInvalid:
            continue
    return frozenset(found)


def claim(store: Store, system: str, others: Iterable[str] = ()) -> None:
    """The store is this cluster's from now on. OtherCluster if it is another's. others: known besides."""
    claimed = owners(store)
    _check(store, system, claimed or others)
    if not claimed:
        store.put(cluster_name(system), b"")
        # Two clusters may both have looked before either claimed it: the later second look sees both.
        _check(store, system, owners(store))


def check_backup(store: Store, kind: Kind, system: str, known: Sequence[Entry]) -> OtherCluster | None:
    """What to tell beside a logical backup of another cluster than the store's. OtherCluster for a physical
    one, which claims the store. known: the good backups, newest first.
    """
    if kind is Kind.PHYSICAL:
        claim(store, system, _newest(one for one in known if one.manifest.wal is not None))
        return None
    try:
        _check(store, system, owners(store) or _newest(known))
    except OtherCluster as error:
        return error
    return None


def _newest(known: Iterable[Entry]) -> tuple[str, ...]:
    return tuple(entry.manifest.identity.system_identifier for entry in known)[:1]


def _check(store: Store, system: str, owned_by: Iterable[str]) -> None:
    others = sorted(set(owned_by) - {system})
    if others:
        raise OtherCluster(
            f"this store belongs to the cluster {', '.join(others)}, and this one is {system}",
            place=store.name,
            remedy="Give each cluster a store of its own: another folder or prefix in backup.store.",
        )
