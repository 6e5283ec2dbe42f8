"""The suites: each asks its own question of the box."""
