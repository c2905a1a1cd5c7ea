"""How far a key or a webhook reaches: everywhere, to one team or to one pixel, as a choice."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from flask import request

import auth
from core.errors import BadRequest
from core.permissions import Action
from models import Pixel
from people import teams
from pixels import pixels
from web.pages import base


class Reach(NamedTuple):
    """A pixel, a team, or neither: everywhere."""

    pixel_id: uuid.UUID | None = None
    team_id: uuid.UUID | None = None


def of(choice: str) -> Reach:
    """Return what was chosen of `choices`.

    Raises: BadRequest for what is none of them in its form; whether it is there is not asked.
    """
    kind, _, text = choice.partition(":")
    if not choice:
        return Reach()
    with suppress(ValueError):
        if kind == "pixel":
            return Reach(pixel_id=uuid.UUID(text))
        if kind == "team":
            return Reach(team_id=uuid.UUID(text))
    raise BadRequest("Choose one of these.")


def choices(action: Action, everywhere: str) -> list[tuple[str, str]]:
    """Return where the caller may do `action`: everywhere, their teams, their newest pixels.

    A pixel that the address asks for is there however old it is.
    """
    owners = auth.owners_for(auth.caller(), action)
    found = pixels.newest_of(owners, base.FEW_MAX)
    asked = asked_for(action)
    if asked is not None and asked.id not in {pixel.id for pixel in found}:
        found = [asked, *found]
    own = [
        team
        for team in teams.first_teams_of(auth.caller().user)
        if owners is None or team.id in owners
    ]
    return [
        ("", everywhere),
        *((f"team:{team.id}", f"Team: {team.name}") for team in own),
        *((f"pixel:{pixel.id}", f"Pixel: {pixel.name}") for pixel in found),
    ]


def asked_for(action: Action) -> Pixel | None:
    """Return the pixel that the address names, None without one.

    Raises: NotFound, Forbidden.
    """
    text = request.args.get("pixel", "")
    try:
        pixel_id = uuid.UUID(text)
    except ValueError:
        return None
    return auth.pixel_for(auth.caller(), pixel_id, action)


def names(things: Collection[uuid.UUID | None]) -> dict[uuid.UUID, str]:
    """Return the names of those pixels and teams of these that the caller may see."""
    owners = auth.owners_for(auth.caller(), Action.READ_PIXEL)
    ids = {known_id for known_id in things if known_id}
    return pixels.names_of(ids, owners) | teams.names_of(ids, owners)
