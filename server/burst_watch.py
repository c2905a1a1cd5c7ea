"""Looks for bursts once a second, in a thread of each worker."""

from __future__ import annotations

import logging
import threading

from flask import Flask

from upkeep import bursts

PAUSE_SECONDS = 1.0
STOP_SECONDS_MAX = 5.0

log = logging.getLogger("pixelkeep.bursts")


class BurstWatch(threading.Thread):
    """Shares what this process saw, and labels bursts, until it is told to stop."""

    def __init__(self, app: Flask) -> None:
        super().__init__(name="bursts", daemon=True)
        self._app = app
        self._stopping = threading.Event()
        self._has_to_finish = True

    def run(self) -> None:
        """Look after every pause."""
        while not self._stopping.wait(PAUSE_SECONDS):
            try:
                self._look()
            except Exception as error:
                self._has_to_finish = True
                log.error("Bursts were not looked for: %s", type(error).__name__)

    def stop(self) -> None:
        """Stop after what is under way."""
        self._stopping.set()
        self.join(STOP_SECONDS_MAX)

    def _look(self) -> None:
        with self._app.app_context():
            extensions = self._app.extensions
            if self._has_to_finish:
                bursts.finish(extensions["rules"].version)
                self._has_to_finish = False
            bursts.share_and_label(extensions["sightings"], extensions["rules"])
