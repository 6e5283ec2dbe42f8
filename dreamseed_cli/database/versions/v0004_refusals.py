"""Who answered a request, or did not, and how many alike a row stands for."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # Constant defaults: no row is written anew.
    op.execute("ALTER TABLE requests ADD COLUMN source text NOT NULL DEFAULT 'gateway'")
    op.execute("ALTER TABLE requests ADD COLUMN count integer NOT NULL DEFAULT 1")
    # Of the older rows only the events that are still there tell it. JSON escapes quotes within texts.
    op.execute("""
        UPDATE requests SET source = 'fallback' FROM outbox
        WHERE outbox.event_id = requests.event_id AND outbox.payload LIKE '%"source":"fallback"%'
    """)
