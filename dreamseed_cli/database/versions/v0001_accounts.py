"""Users, their tier, and the hashes of their API keys."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE users (
            id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
            tier text NOT NULL CHECK (tier IN ('paid', 'free', 'background')),
            created_at timestamptz NOT NULL DEFAULT now(),
            disabled_at timestamptz
        )
    """)
    op.execute("""
        CREATE TABLE api_keys (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            user_id text NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
            prefix text NOT NULL,
            label text NOT NULL DEFAULT '',
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz,
            revoked_at timestamptz
        )
    """)
    op.execute("CREATE INDEX api_keys_user ON api_keys (user_id)")
