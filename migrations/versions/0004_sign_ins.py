"""Users by their folded name, and when they first signed in."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade():
    # Not in a batch: that copies the table in SQLite, and to drop the old one deletes keys with it.
    op.add_column("users", sa.Column("folded_username", sa.String(length=765), nullable=True))
    op.add_column("users", sa.Column("signed_in_at", sa.BigInteger(), nullable=True))
    users = sa.table(
        "users",
        sa.column("id", sa.Uuid()),
        sa.column("username", sa.String()),
        sa.column("folded_username", sa.String()),
    )
    connection = op.get_bind()
    # In Python, since databases fold ASCII only, or by a locale of their own.
    for id, username in connection.execute(sa.select(users.c.id, users.c.username)).all():
        folded = sa.update(users).where(users.c.id == id)
        connection.execute(folded.values(folded_username=username.casefold()))
    op.create_index(op.f("ix_users_folded_username"), "users", ["folded_username"])


def downgrade():
    op.drop_index(op.f("ix_users_folded_username"), "users")
    op.drop_column("users", "signed_in_at")
    op.drop_column("users", "folded_username")
