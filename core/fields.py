"""The fields that schemas share: lines of text, instants, bounded lists, parameters."""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields, validate

from core.clock import iso

PARAMETERS_CHARACTERS_MAX = 4000
PARAMETERS_LEVELS_MAX = 20


# What `str.strip` takes away, some control characters too; other languages have another `\s`.
BLANKS = r"\t-\r\x1c-\x20\x85\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
CONTROLS = r"\x00-\x1f\x7f-\x9f"
_CONTROL = re.compile(f"[{CONTROLS}]")


def without_controls(text: str) -> str:
    """Return a text without what terminals obey."""
    return _CONTROL.sub("", text)


class Line(fields.String):
    """A trimmed line of text of `low` to `high` characters, free of control characters."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        self.low, self.high = low, high
        super().__init__(
            metadata={
                "pattern": _line_pattern(low, high),
                "description": f"{low} to {high} characters, once trimmed; no control characters.",
            },
            **kwargs,
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        line = str(super()._deserialize(value, attr, data, **kwargs)).strip()
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in line):
            raise ValidationError("Must not contain control characters.")
        if not self.low <= len(line) <= self.high:
            raise ValidationError(
                "Must not be blank."
                if not line
                else f"Must be {self.low} to {self.high} characters long, and is {len(line)}."
            )
        return line


def _line_pattern(low: int, high: int) -> str:
    """Return what the document says of a line: a length would count the ends."""
    first_or_last = f"[^{BLANKS}{CONTROLS}]"
    others = f"[^{CONTROLS}]{{{max(low - 2, 0)},{high - 2}}}"
    line = f"{first_or_last}({others}{first_or_last}){'?' if low < 2 else ''}"
    return f"^[{BLANKS}]*{f'({line})?' if low < 1 else line}[{BLANKS}]*$"


class WholeNumber(fields.Integer):
    """An integer, as text too where a form sends it; one and a half is none, and not one."""

    def _validated(self, value: Any) -> int:
        if isinstance(value, float) and not value.is_integer():
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class InstantField(fields.DateTime):
    """An instant: out as `2024-03-15T09:20:00.000Z`, in as any ISO 8601 with a zone (or UTC)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", **kwargs)

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else iso(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        instant = super()._deserialize(value, attr, data, **kwargs)
        try:
            return instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(UTC)
        except OverflowError:
            raise ValidationError("Not a valid datetime.") from None


class SentAtField(InstantField):
    """When a mail is sent: an instant since 1970, which is where a token begins to count."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        instant = super()._deserialize(value, attr, data, **kwargs)
        if instant.year < 1970:
            raise ValidationError("Must not be before 1970.")
        return instant


class BoundedList(fields.List[Any]):
    """A list of 1 to `high` items, counted before any of them is read."""

    def __init__(self, item: fields.Field[Any], high: int, **kwargs: Any) -> None:
        self.length = validate.Length(1, high)
        kwargs.setdefault("metadata", {}).update({"minItems": 1, "maxItems": high})
        super().__init__(item, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list):
            self.length(value)
        return super()._deserialize(value, attr, data, **kwargs)


class Verbatim(fields.String):
    """Text of `low` to `high` characters, taken as it is, blanks included."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        pattern = {"pattern": r"^[^\x00]*$"}
        super().__init__(validate=validate.Length(low, high), metadata=pattern, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = str(super()._deserialize(value, attr, data, **kwargs))
        if not is_storable(text):
            raise ValidationError("Must not contain NUL or half of a surrogate pair.")
        return text


def is_storable(value: str) -> bool:
    """Tell whether every database can hold `value`: UTF-8 without NUL."""
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


class Parameters(fields.Dict):
    """Any small JSON object."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        parameters: dict[str, Any] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]
        if _is_deeper(parameters, PARAMETERS_LEVELS_MAX):
            raise ValidationError(f"Must be nested {PARAMETERS_LEVELS_MAX} levels deep or less.")
        # Kept with every character escaped, so any will do.
        if len(json.dumps(parameters)) > PARAMETERS_CHARACTERS_MAX:
            raise ValidationError(f"Must be {PARAMETERS_CHARACTERS_MAX} characters or less.")
        return parameters


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inside = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(inner, levels - 1) for inner in inside)


class ShareSlug(fields.String):
    """The end of a share's URL."""

    def __init__(self, **kwargs: Any) -> None:
        problem = "Must be 1 to 100 ASCII letters, digits, dots, hyphens, underscores or tildes."
        plain = validate.Regexp(r"^[A-Za-z0-9._~-]{1,100}\Z", error=problem)
        pattern = {"pattern": "^[A-Za-z0-9._~-]{1,100}$"}
        super().__init__(validate=plain, metadata=pattern, **kwargs)
