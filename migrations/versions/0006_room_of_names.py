"""Agents and texts take the room that they need, and agents keep what was read in them.

In a table without rowids SQLite puts what a row has over a quarter of a page onto a page of its
own: an agent of 1,000 characters took 4.3 KB. What older rules read in an agent is read again where
it is needed, until `reclassify` stores it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def names():
    return [
        sa.Column("browser", sa.String(length=100), nullable=True),
        sa.Column("os", sa.String(length=100), nullable=True),
        sa.Column("device", sa.String(length=100), nullable=True),
        sa.Column("rules_version", sa.Integer(), server_default="0", nullable=False),
    ]


def agent():
    return [
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_agent", sa.String(length=1000), nullable=False),
    ]


def text():
    return [
        sa.Column("pixel_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.String(length=500), nullable=False),
    ]


def upgrade():
    if op.get_bind().dialect.name != "sqlite":
        for column in names():
            op.add_column("agents", column)
        return
    make_anew("agents", [*agent(), *names()], ["id"])
    op.execute("INSERT INTO agents (id, user_agent) SELECT id, user_agent FROM old_agents")
    op.drop_table("old_agents")
    make_anew("texts", text(), ["pixel_number", "id"])
    op.execute("INSERT INTO texts SELECT pixel_number, id, value FROM old_texts")
    op.drop_table("old_texts")


def downgrade():
    if op.get_bind().dialect.name != "sqlite":
        for column in names():
            op.drop_column("agents", column.name)
        return
    make_anew("agents", agent(), ["id"], sqlite_with_rowid=False)
    op.execute("INSERT INTO agents SELECT id, user_agent FROM old_agents")
    op.drop_table("old_agents")
    make_anew("texts", text(), ["pixel_number", "id"], sqlite_with_rowid=False)
    op.execute("INSERT INTO texts SELECT pixel_number, id, value FROM old_texts")
    op.drop_table("old_texts")


def make_anew(name, columns, key, **options):
    op.rename_table(name, f"old_{name}")
    constraint = sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}"))
    op.create_table(name, *columns, constraint, **options)
