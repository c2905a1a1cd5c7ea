"""Cells that no spreadsheet takes for a formula, and the way back.

Senders choose their user agent, query and name, and an export is opened in a spreadsheet. Programs
cut its lines at commas, semicolons or tabs, whatever the quotes say, so a formula may begin in the
middle of a value, and the full-width signs of East Asian keyboards begin one too. An apostrophe
before the sign makes it text. One is added to those that are there, and one is taken away, so that
every value comes back as it was.
"""

from __future__ import annotations

import re

BYTE_ORDER_MARK = "\ufeff"
_CELL_START = r"(?:\A|(?<=[,;\t\r\n]))"
_FORMULA = "(?=['\"]*[=+\\-@\uff1d\uff0b\uff0d\uff20\\t\\r\\n])"
_BEFORE_FORMULA = re.compile(_CELL_START + _FORMULA)
_DEFUSED = re.compile(f"{_CELL_START}'{_FORMULA}")


def defused(value: object) -> object:
    """Return a cell's value with an apostrophe wherever a formula might begin."""
    return _BEFORE_FORMULA.sub("'", value) if isinstance(value, str) else value


def undefused(text: str) -> str:
    """Return the value from which `defused` made `text`."""
    return _DEFUSED.sub("", text)
