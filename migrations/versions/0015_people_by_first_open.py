"""Lists of people in the order of their first opens, read from an index."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade():
    op.create_index(
        "ix_recipients_first_opened",
        "recipients",
        ["pixel_number", "first_opened_at", "recipient", "visitor", "opted_out"],
        sqlite_where=sa.text("verified IS 1 AND status = 2"),
        postgresql_where=sa.text("verified IS true AND status = 2"),
    )


def downgrade():
    op.drop_index("ix_recipients_first_opened", "recipients")
