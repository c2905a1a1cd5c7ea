"""Who was forgotten stays in figures without a name; pixels that start anew; lists in order."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

INDEXES = (
    (
        "ix_recipients_name",
        ["pixel_number", "recipient", "visitor", "status", "opted_out"],
        "verified IS {true}",
    ),
    (
        "ix_recipients_opened",
        [
            *("pixel_number", "last_opened_at", "recipient", "visitor", "opted_out"),
            *("first_opened_at", "opens"),
        ],
        "verified IS {true} AND status = 2",
    ),
)


def upgrade():
    op.create_table(
        "restarts",
        sa.Column("pixel_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("through", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pixel_number", name=op.f("pk_restarts")),
        sqlite_with_rowid=False,
    )
    op.add_column(
        "pixels",
        sa.Column("people_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
    )
    let_names_be_missing(nullable=True)
    for name, columns, condition in INDEXES:
        op.create_index(
            name,
            "recipients",
            columns,
            sqlite_where=sa.text(condition.format(true="1")),
            postgresql_where=sa.text(condition.format(true="true")),
        )


def let_names_be_missing(*, nullable):
    """SQLite copies the table for that, once."""
    with op.batch_alter_table("recipients", table_kwargs={"sqlite_with_rowid": False}) as batch_op:
        batch_op.alter_column("recipient", existing_type=sa.String(length=200), nullable=nullable)


def downgrade():
    for name, _, _ in INDEXES:
        op.drop_index(name, "recipients")
    op.execute("DELETE FROM recipients WHERE recipient IS NULL")
    let_names_be_missing(nullable=False)
    op.drop_column("pixels", "people_version")
    op.drop_table("restarts")
