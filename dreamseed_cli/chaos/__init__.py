"""Rehearsals: one fault on purpose, on emulated engines only, and what the stack makes of it."""
