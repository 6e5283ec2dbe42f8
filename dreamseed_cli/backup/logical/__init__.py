"""Logical backups: pg_dump with content digests at one snapshot, and restores that are proven by them."""
