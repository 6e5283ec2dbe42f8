"""Doors: one small file a verb. Parse options, call a room, return its result."""
