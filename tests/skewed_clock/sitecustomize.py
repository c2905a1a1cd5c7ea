"""Moves the clock of the Python process that finds this on its path, and nothing else's.

`SKEW_FILE` names a file that holds the seconds to add; write it again and the clock moves.
"""

import os
import time

_true_ns = time.time_ns


def _skewed_ns() -> int:
    with open(os.environ["SKEW_FILE"]) as file:
        return _true_ns() + int(float(file.read() or 0) * 1_000_000_000)


time.time_ns = _skewed_ns
time.time = lambda: _skewed_ns() / 1_000_000_000
