"""Looks after the cards that our engines use: telemetry, faults, and the ladder of recovery (§H1)."""
