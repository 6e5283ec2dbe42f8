"""PostgreSQL and Valkey as private servers of the stack: their commands and addresses."""
