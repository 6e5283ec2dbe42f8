"""A database with everything in it that a backup could lose, and a small one beside it."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql
from real_services import RunningPostgres

RICH = 'Ünï "quoted" 기억'
SMALL = "small"

ROLES = """
CREATE ROLE "Größe" LOGIN PASSWORD 'a-secret';
CREATE ROLE readers NOLOGIN;
GRANT readers TO "Größe" WITH ADMIN OPTION;
"""
SCHEMA = """
CREATE EXTENSION vector;
CREATE SCHEMA "Mixed Schema" AUTHORIZATION "Größe";
CREATE TYPE mood AS ENUM ('sad', 'ok', '행복');
CREATE DOMAIN percent AS int CHECK (value BETWEEN 0 AND 100);
CREATE TABLE types (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, f float8, r float4, n numeric, d date,
    ts timestamp, tz timestamptz, i interval, b bytea, j jsonb, a text[], m mood, p percent, v vector(3),
    u uuid, net inet, rng int4range, t text, s int GENERATED ALWAYS AS (id * 2) STORED,
    w int GENERATED ALWAYS AS (id * 3) VIRTUAL, dropped int);
ALTER TABLE types DROP COLUMN dropped;
INSERT INTO types (f, r, n, d, ts, tz, i, b, j, a, m, p, v, u, net, rng, t) VALUES
    ('NaN', 'NaN', 'NaN', '4713-01-01 BC', '0044-03-15 12:00 BC', '2025-11-10 03:00+09', '1 mon -2 days 3.5s',
     '\\x00ff', '{"a": [1, null]}', '{a,NULL,"b c"}', '행복', 5, '[1,2,3]', gen_random_uuid(),
     '10.0.0.1/8', '[1,5)', ''),
    ('Infinity', '-Infinity', 'Infinity', 'infinity', '-infinity', 'infinity', 'infinity', '', '1', '{}',
     'sad', 0, '[0.1,0,-0]', NULL, '::1', 'empty', E'tab\\t newline\\n \\\\ quote"'),
    ('-0', 1e-45, 1e-300, '2024-02-29', '2025-03-30 02:30', '1900-01-01 00:00+08:27:52', '0', NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE "Mixed Schema"."Tàble ""x"" y" ("Sp ace" text, "select" int);
INSERT INTO "Mixed Schema"."Tàble ""x"" y" VALUES ('a', 1), ('a', 1), (NULL, NULL), ('', 0);
CREATE TABLE events (at date NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE events_new PARTITION OF events DEFAULT;
INSERT INTO events SELECT '2024-12-01'::date + g / 300, g FROM generate_series(1, 20000) g;
CREATE UNLOGGED TABLE scratch (n int);
INSERT INTO scratch SELECT generate_series(1, 50);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE MATERIALIZED VIEW totals AS SELECT at, sum(n) FROM events GROUP BY at;
CREATE MATERIALIZED VIEW stale AS SELECT count(*) FROM scratch;
INSERT INTO scratch VALUES (51);
CREATE MATERIALIZED VIEW empty AS SELECT 1 WITH NO DATA;
CREATE SEQUENCE counted START 42;
SELECT nextval('counted');
SELECT lo_from_bytea(4001, 'large');
SELECT lo_from_bytea(4002, decode(repeat('00ff', 800000), 'hex'));
SELECT lo_put(lo_create(4003), 3000000, 'after a hole');
SELECT lo_create(4004);
GRANT SELECT ON types TO readers;
ALTER DEFAULT PRIVILEGES IN SCHEMA "Mixed Schema" GRANT SELECT ON TABLES TO readers;
"""

_OLDER: Final = {
    "CREATE EXTENSION vector": "CREATE EXTENSION hstore",
    "v vector(3)": "v hstore",
    "'[1,2,3]'": "'a=>1,\"b c\"=>NULL'",
    "'[0.1,0,-0]'": "''",
    "'infinity', '', '1'": "'-178000 years', '', '1'",
    " VIRTUAL": " STORED",
}
"""What PostgreSQL 15 has instead: pgvector is not in its package, infinite intervals and virtual columns came
later.
"""


_NO_EXTENSION: Final = {"CREATE EXTENSION hstore;": "", "v hstore": "v text"}


def fill(running: RunningPostgres, *, extension: bool = True) -> None:
    """Roles, the rich database and the small one, on a new server. extension: without one, what an older
    server holds comes back on the embedded PostgreSQL, which has no hstore.
    """
    schema = SCHEMA
    with psycopg.connect(running.server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(ROLES)
        for name in (RICH, SMALL):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("ALTER DATABASE {} SET work_mem = '5MB'").format(sql.Identifier(RICH)))
        if connection.info.server_version < 180000:
            for newer, older in {**_OLDER, **({} if extension else _NO_EXTENSION)}.items():
                assert newer in schema
                schema = schema.replace(newer, older)
    with psycopg.connect(running.server.dsn(RICH), autocommit=True) as connection:
        connection.execute(schema)
    with psycopg.connect(running.server.dsn(SMALL), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT g, md5(g::text) FROM generate_series(1, 9000) g")


def check_fittings(running: RunningPostgres) -> None:
    """What no table's digest tells: settings, sequences, rights, owners, large objects by their number."""
    with psycopg.connect(running.server.dsn(RICH)) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
        assert connection.execute("SELECT nextval('counted')").fetchone() == (43,)
        assert connection.execute(
            "SELECT has_table_privilege('readers', 'types', 'SELECT'),"
            " pg_has_role('Größe', 'readers', 'MEMBER')"
        ).fetchone() == (True, True)
        assert connection.execute("SELECT lo_get(4001)").fetchone() == (b"large",)
        assert connection.execute(
            "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'Mixed Schema'"
        ).fetchone() == ("Größe",)
