"""The ids of deleted pixels, which are never given to another."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "deleted_pixels",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deleted_pixels")),
        sqlite_with_rowid=False,
    )


def downgrade():
    op.drop_table("deleted_pixels")
