"""The version of what recorders know: raised with every change that hits must obey at once."""

from __future__ import annotations

from sqlalchemy import update

from core.database import db
from models import Catalogue


def raise_version() -> None:
    """Make every recorder forget what it knows of pixels, people and stored rows, with this commit.

    Call it inside `writing()`.
    """
    db.session.execute(update(Catalogue).values(version=Catalogue.version + 1))
