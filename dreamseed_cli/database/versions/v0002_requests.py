"""A row for every request, and the outbox its event leaves from."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE requests (
            event_id text PRIMARY KEY,
            request_id text NOT NULL,
            user_id text NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('finished', 'failed', 'rejected', 'cancelled')),
            reason text,
            priority text NOT NULL,
            workload text NOT NULL,
            model text NOT NULL,
            replica text,
            cache_hit boolean NOT NULL,
            prompt_tokens integer,
            completion_tokens integer,
            finish_reason text,
            arrived_at timestamptz NOT NULL,
            duration_s double precision NOT NULL,
            queue_s double precision,
            ttft_s double precision,
            simulated boolean NOT NULL
        )
    """)
    op.execute("CREATE INDEX requests_arrived ON requests (arrived_at)")
    op.execute("CREATE INDEX requests_user ON requests (user_id, arrived_at)")
    op.execute("""
        CREATE TABLE outbox (
            sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            event_id text NOT NULL UNIQUE,
            key text NOT NULL,
            payload text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            published_at timestamptz
        )
    """)
    op.execute("CREATE INDEX outbox_waiting ON outbox (sequence) WHERE published_at IS NULL")
    op.execute("CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL")
