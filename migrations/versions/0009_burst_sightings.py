"""Hits that may be a gateway's, for a minute."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "burst_sightings",
        sa.Column("pixel_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hit", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("visitor", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("in_burst", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("pixel_number", "source", "hit"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_burst_sightings_at_ms"), "burst_sightings", ["at_ms"])


def downgrade():
    op.drop_table("burst_sightings")
