"""What belongs to whom, as a condition: pixels and webhooks are a user's, or else a team's."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, false, or_

from models import Owner, Pixel, Webhook


def belonging_to(
    owners: Collection[Owner], model: type[Pixel] | type[Webhook]
) -> ColumnElement[bool]:
    """Return the condition for what belongs to one of some owners."""
    users = {owner.user_id for owner in owners if owner.user_id}
    teams = {owner.team_id for owner in owners if owner.team_id}
    # Each column has its index; one that nobody is asked for in is left out.
    columns = ((model.user_id, users), (model.team_id, teams))
    return or_(false(), *(column.in_(ids) for column, ids in columns if ids))
