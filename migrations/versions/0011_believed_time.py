"""What was believed of the clock, so that a start while it is ahead deletes nothing too early."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = ("believed_ms", "doubted_ms")


def upgrade():
    for column in COLUMNS:
        op.add_column(
            "catalogue",
            sa.Column(column, sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        )


def downgrade():
    for column in COLUMNS:
        op.drop_column("catalogue", column)
