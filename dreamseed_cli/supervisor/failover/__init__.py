"""Engines elsewhere that help out while this box lacks capacity: when, by which command, at what cost."""
