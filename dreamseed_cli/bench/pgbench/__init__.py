"""PostgreSQL measured with its own pgbench (§E1)."""
