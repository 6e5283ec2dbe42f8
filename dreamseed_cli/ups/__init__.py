"""The UPS: what it tells, when the box has to stop, and how it stops in order (§H3)."""
