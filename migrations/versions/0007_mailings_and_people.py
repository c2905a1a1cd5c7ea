"""When pixels and people were written to, what people want, and who was forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("catalogue", sa.Column("people_key", sa.LargeBinary(), nullable=True))
    for column in (
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_count", sa.Integer(), nullable=True),
        sa.Column("retention_days", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=True),
    ):
        op.add_column("pixels", column)
    op.create_table(
        "opt_outs",
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("person", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recipient", sa.String(length=200), nullable=True),
        sa.Column("said_at", sa.BigInteger(), nullable=False),
        sa.Column("said_by", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("owner", "person", name=op.f("pk_opt_outs")),
    )
    op.create_table(
        "forgotten",
        sa.Column("pixel_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("person", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("pixel_number", "person", name=op.f("pk_forgotten")),
        sqlite_with_rowid=False,
    )
    make_recipients_anew()


def make_recipients_anew():
    """Copy the table, once, since SQLite can't add columns that have no default.

    Who has a hit that is counted already is given the profile of their last open, or else of
    their last fetch.
    """
    op.rename_table("recipients", "recipients_before")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX pk_recipients RENAME TO pk_recipients_before")
    op.create_table(
        "recipients",
        sa.Column("pixel_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("visitor", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recipient", sa.String(length=200), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("first_opened_at", sa.BigInteger(), nullable=True),
        sa.Column("last_opened_at", sa.BigInteger(), nullable=True),
        sa.Column("opens", sa.Integer(), nullable=False),
        sa.Column("prefetches", sa.Integer(), nullable=False),
        sa.Column("bots", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("person", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("opted_out", sa.Boolean(), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("last_profile", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("pixel_number", "visitor", name=op.f("pk_recipients")),
        sqlite_with_rowid=False,
    )
    op.execute(
        """
        WITH last AS (
            SELECT h.pixel_number, h.visitor, max(h.id) AS any_id,
                max(CASE WHEN p.hit_class = 'open' THEN h.id END) AS open_id
            FROM hits h
            JOIN profiles p ON p.pixel_number = h.pixel_number AND p.id = h.profile
            JOIN pixels x ON x.number = h.pixel_number AND h.id <= x.folded_through
            JOIN recipients_before r
                ON r.pixel_number = h.pixel_number AND r.visitor = h.visitor
            GROUP BY h.pixel_number, h.visitor
        )
        INSERT INTO recipients (
            pixel_number, visitor, recipient, verified, first_opened_at, last_opened_at,
            opens, prefetches, bots, number, status, opted_out, consent, last_profile
        )
        SELECT r.pixel_number, r.visitor, r.recipient, r.verified, r.first_opened_at,
            r.last_opened_at, r.opens, r.prefetches, r.bots, r.number,
            CASE WHEN r.opens > 0 THEN 2 WHEN r.prefetches + r.bots > 0 THEN 1 ELSE 0 END,
            false, false, p.number
        FROM recipients_before r
        LEFT JOIN last ON last.pixel_number = r.pixel_number AND last.visitor = r.visitor
        LEFT JOIN hits h
            ON h.pixel_number = last.pixel_number AND h.id = coalesce(last.open_id, last.any_id)
        LEFT JOIN profiles p ON p.pixel_number = h.pixel_number AND p.id = h.profile
        """
    )
    op.drop_table("recipients_before")
    op.create_index("ix_recipients_person", "recipients", ["person", "pixel_number"])
    op.create_index(
        "ix_recipients_status",
        "recipients",
        ["pixel_number", "verified", "opted_out", "status", "first_opened_at", "sent_at"],
    )


def downgrade():
    op.drop_index("ix_recipients_status", "recipients")
    op.drop_index("ix_recipients_person", "recipients")
    with op.batch_alter_table("recipients", table_kwargs={"sqlite_with_rowid": False}) as batch_op:
        for name in (
            *("person", "status", "opted_out", "consent", "issued_at", "sent_at"),
            "last_profile",
        ):
            batch_op.drop_column(name)
    op.drop_table("forgotten")
    op.drop_table("opt_outs")
    for name in ("sent_at", "sent_count", "retention_days", "updated_at"):
        op.drop_column("pixels", name)
    op.drop_column("catalogue", "people_key")
