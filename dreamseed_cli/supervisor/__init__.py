"""The process tree: start order, health, drain; and the live view of it."""
