"""The WAL archive: pushed as PostgreSQL finishes files, fetched as recovery asks for them."""
