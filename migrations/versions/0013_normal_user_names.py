"""Users by their name in one of Unicode's normal forms."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade():
    _fold(lambda name: _normal(_normal(name).casefold())[:255])


def downgrade():
    _fold(str.casefold)


def _normal(name):
    return unicodedata.normalize("NFKC", name)


def _fold(folded):
    users = sa.table(
        "users",
        sa.column("id", sa.Uuid()),
        sa.column("username", sa.String()),
        sa.column("folded_username", sa.String()),
    )
    connection = op.get_bind()
    statement = sa.select(users.c.id, users.c.username, users.c.folded_username)
    for id, username, before in connection.execute(statement).all():
        if folded(username) != before:
            changed = sa.update(users).where(users.c.id == id)
            connection.execute(changed.values(folded_username=folded(username)))
