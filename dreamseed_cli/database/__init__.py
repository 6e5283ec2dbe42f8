"""The connection to PostgreSQL and the versions of its schema."""
