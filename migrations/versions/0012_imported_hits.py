"""Which rows of files have been imported."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "imported_hits",
        sa.Column("pixel_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("row", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("pixel_number", "row", name=op.f("pk_imported_hits")),
        sqlite_with_rowid=False,
    )


def downgrade():
    op.drop_table("imported_hits")
