"""What other processes do to the database of `test_folding`; each is a fork (`tests.commands`)."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection

from app import create_app
from core import settings
from core.database import db
from core.locks import folders_turn
from hits.bursts import Sighting
from stats import arithmetic, compacting, folding, rebuilding
from upkeep import bursts


def hold_the_folders_turn(environment: dict[str, str], number: int, asking: Connection) -> None:
    """Have a pixel's turn to fold, and say so, until something is said."""
    with (
        create_app(settings.load(environment)).app_context(),
        folders_turn(db.engine, number, 10) as mine,
    ):
        asking.send(mine)
        asking.recv()


def fold(environment: dict[str, str], number: int, asking: Connection) -> None:
    """Fold a pixel in small steps, and say so after each."""
    arithmetic.PIECE_HITS_MAX = 16
    compacting.RECENT_HITS_MIN = 4
    with create_app(settings.load(environment)).app_context():
        while folding.fold(number, 5):
            asking.send("folded")


def label_and_die(environment: dict[str, str], sightings: list[Sighting]) -> None:
    """Label hits as a burst's, and be killed before they are counted anew."""
    rebuilding.rebuild = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    with create_app(settings.load(environment)).app_context():
        bursts.label(sightings, 1)
