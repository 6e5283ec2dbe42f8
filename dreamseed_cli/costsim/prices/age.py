"""How old a price may be. A module of its own: the command line says it without loading a price book."""

MAX_AGE_DAYS = 180
"""A price that is older may have changed."""
