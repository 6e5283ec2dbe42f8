"""Mounts the verbs, and is the one place where an error becomes a message and an exit code."""
