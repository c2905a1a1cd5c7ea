"""The version of what recorders know: raised with every change that hits must obey at once."""

from __future__ import annotations

from sqlalchemy import ColumnElement, update

from core.database import db
from models import Catalogue, Pixel


def raise_version() -> None:
    """Make every recorder forget what it knows of pixels, people and stored rows, with this commit.

    Call it inside `writing()`.
    """
    db.session.execute(update(Catalogue).values(version=Catalogue.version + 1))


def raise_people_version(pixels: ColumnElement[bool]) -> None:
    """Let those who counted the people of some pixels count them anew, with this commit.

    Call it inside `writing()`.
    """
    db.session.execute(
        update(Pixel)
        .where(pixels)
        .values(people_version=Pixel.people_version + 1)
        .execution_options(synchronize_session=False)
    )
