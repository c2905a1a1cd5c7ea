"""Order and time become two: `hits.dated_ms`, and what goes by a hit's time and not by its id.

Nothing is copied: a column that may be null, or has a default, is added without touching a row, so
that a table of any size is done in a moment.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID_SHIFT = 20


def upgrade():
    op.add_column("hits", sa.Column("dated_ms", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_hits_dated_ms",
        "hits",
        ["pixel_number", "dated_ms"],
        sqlite_where=sa.text("dated_ms IS NOT NULL"),
        postgresql_where=sa.text("dated_ms IS NOT NULL"),
    )
    for table, column in (("pixels", "newest_ms"), ("catalogue", "future_ms")):
        op.add_column(
            table,
            sa.Column(column, sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        )
        # Until now a hit's id said when it was.
        op.execute(
            sa.update(sa.table(table, sa.column(column), sa.column("folded_through"))).values(
                {column: sa.column("folded_through").op(">>")(ID_SHIFT)}
            )
        )
    op.add_column("salts", sa.Column("boot", sa.String(length=36), nullable=True))
    op.add_column("salts", sa.Column("clock_offset_ms", sa.BigInteger(), nullable=True))


def downgrade():
    op.drop_index("ix_hits_dated_ms", "hits")
    for table, column in (
        ("hits", "dated_ms"),
        ("pixels", "newest_ms"),
        ("catalogue", "future_ms"),
        ("salts", "boot"),
        ("salts", "clock_offset_ms"),
    ):
        op.drop_column(table, column)
