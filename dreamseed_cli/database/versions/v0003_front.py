"""What the API front serves and spends: questions, and the money lent to it for the fallback."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE questions (
            id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),
            content jsonb NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE fallback_leases (
            id uuid PRIMARY KEY,
            month date NOT NULL,
            holder text NOT NULL,
            granted_usd numeric(12, 6) NOT NULL CHECK (granted_usd > 0),
            spent_usd numeric(12, 6) CHECK (spent_usd >= 0),
            granted_at timestamptz NOT NULL DEFAULT now(),
            settled_at timestamptz
        )
    """)
    op.execute("CREATE INDEX fallback_leases_month ON fallback_leases (month)")
