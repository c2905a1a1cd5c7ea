"""The shapes of what comes in and goes out, in marshmallow; no database.

Lines are trimmed and hold no control characters; unknown keys are ignored; instants are
ISO 8601 in UTC with milliseconds and `Z`.
"""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from permissions import Role, TeamRole

PARAMETERS_CHARACTERS_MAX = 4000
PARAMETERS_LEVELS_MAX = 20
SHARE_TYPE_PIXEL = 3  # Umami's number.
PAGE_SIZE_MAX = 100
PAGE_MAX = 1_000_000
RECIPIENTS_ISSUED_MAX = 10_000
PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 1000
# Umami has it and we don't.
NOTHING = fields.Constant(None, metadata={"enum": [None]})


# ruff: noqa: N815  The names are the JSON keys.


class Base(Schema):
    """A shape that ignores keys it doesn't know."""

    class Meta:
        unknown = EXCLUDE

    def __deepcopy__(self, _memo: Any) -> Base:
        # The document's copies of each would be 6 MB.
        return self


# What `str.strip` takes away, some control characters too; other languages have another `\s`.
BLANKS = r"\t-\r\x1c-\x20\x85\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
CONTROLS = r"\x00-\x1f\x7f-\x9f"


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


def iso(instant: datetime) -> str:
    """Return an aware instant as `2024-03-15T09:20:00.000Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class PixelCreate(Base):
    """A new pixel."""

    name = Line(1, 100, required=True)
    slug = Line(1, 100, required=True)
    teamId = fields.UUID(load_default=None, allow_none=True)
    id = fields.UUID(load_default=None, allow_none=True)


class PixelUpdate(Base):
    """What may change of a pixel; what is left out stays."""

    name = Line(1, 100)
    slug = Line(1, 100)
    privacy = fields.String(validate=validate.OneOf(["full", "anonymous"]))


class SentField(InstantField):
    """When a mail is sent: an instant since 1970, which is where a token begins to count."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        instant = super()._deserialize(value, attr, data, **kwargs)
        if instant.year < 1970:
            raise ValidationError("Must not be before 1970.")
        return instant


class EmbedArgs(Base):
    """Whom the link is for, and when the mail is sent."""

    recipient = Line(0, 200, load_default="")
    sentAt = SentField(load_default=None)


class EmbedOut(Base):
    """What to embed."""

    url = fields.String(required=True)
    html = fields.String(required=True)


class PixelOut(Base):
    """A pixel, with exactly these keys."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)
    userId = fields.UUID(attribute="user_id", required=True, allow_none=True)
    teamId = fields.UUID(attribute="team_id", required=True, allow_none=True)
    createdAt = InstantField(attribute="created_at", required=True)


class PageArgs(Base):
    """Which page of a list, and how large."""

    page = fields.Integer(load_default=1, validate=validate.Range(1, PAGE_MAX))
    pageSize = fields.Integer(load_default=20, validate=validate.Range(1, PAGE_SIZE_MAX))
    search = Line(0, 200, load_default="")


class PixelListArgs(PageArgs):
    """Which page of a list of pixels, in what order; the newest first unless asked."""

    orderBy = fields.String(
        load_default=None, validate=validate.OneOf(["name", "slug", "createdAt"])
    )
    sortDescending = fields.Boolean(load_default=None)


def page_of(item: type[Schema]) -> type[Schema]:
    """Return the shape of a page of `item`s."""
    return Base.from_dict(
        {
            "data": fields.List(fields.Nested(item), required=True),
            "count": fields.Integer(required=True),
            "page": fields.Integer(required=True),
            "pageSize": fields.Integer(attribute="page_size", required=True),
        },
        name=item.__name__.removesuffix("Out") + "Page",
    )


PixelPage = page_of(PixelOut)


class Ok(Base):
    """Done."""

    ok = fields.Boolean(required=True)


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


class RecipientsIssue(Base):
    """Whom signed links are for, and when the mail is sent."""

    recipients = BoundedList(Line(1, 200), RECIPIENTS_ISSUED_MAX, required=True)
    sentAt = SentField(load_default=None, allow_none=True)


class RecipientLink(EmbedOut):
    """What to embed in one recipient's mail."""

    recipient = fields.String(required=True)


class RecipientLinks(Base):
    """Signed links, in the order of the recipients."""

    data = fields.List(fields.Nested(RecipientLink), required=True)


class RecipientListArgs(PageArgs):
    """Which page of a pixel's recipients, in what order; the last to open first unless asked."""

    orderBy = fields.String(
        load_default=None,
        validate=validate.OneOf(["recipient", "firstOpenedAt", "lastOpenedAt", "opens"]),
    )
    sortDescending = fields.Boolean(load_default=None)


class RecipientOut(Base):
    """A recipient, and the hits of their links by class; a plain link's is not verified."""

    recipient = fields.String(required=True)
    verified = fields.Boolean(required=True)
    firstOpenedAt = InstantField(attribute="first_opened_at", required=True, allow_none=True)
    lastOpenedAt = InstantField(attribute="last_opened_at", required=True, allow_none=True)
    opens = fields.Integer(required=True)
    prefetches = fields.Integer(required=True)
    bots = fields.Integer(required=True)


RecipientPage = page_of(RecipientOut)


class SentPayload(Base):
    """What a hit without an image tells of itself; all but the pixel may be left out."""

    pixel = fields.UUID(required=True)
    url = fields.String(load_default="")
    referrer = fields.String(load_default="")
    hostname = fields.String(load_default="")
    language = fields.String(load_default="")
    userAgent = fields.String(load_default="")
    id = fields.String(load_default="", metadata={"description": "Who it is, unverified."})


class Sent(Base):
    """A hit without an image."""

    type = fields.String(required=True, validate=validate.Equal("event"))
    payload = fields.Nested(SentPayload, required=True)


class SentOut(Base):
    """Whom a hit was counted for, as far as that may be known."""

    cache = fields.String()
    sessionId = fields.UUID()
    visitId = fields.UUID()


class ErrorDetail(Base):
    """What went wrong: a sentence, a code for programs, and for a validation each field's."""

    message = fields.String(required=True)
    code = fields.String(required=True)
    status = fields.Integer(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))


class ErrorOut(Base):
    """The one shape of every error."""

    error = fields.Nested(ErrorDetail, required=True)


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
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inside)


class ShareSlug(fields.String):
    """The end of a share's URL."""

    def __init__(self, **kwargs: Any) -> None:
        problem = "Must be 1 to 100 ASCII letters, digits, dots, hyphens, underscores or tildes."
        plain = validate.Regexp(r"^[A-Za-z0-9._~-]{1,100}\Z", error=problem)
        pattern = {"pattern": "^[A-Za-z0-9._~-]{1,100}$"}
        super().__init__(validate=plain, metadata=pattern, **kwargs)


class LoginArgs(Base):
    """A name and a password; both are taken as they are."""

    username = Verbatim(1, 255, required=True)
    password = Verbatim(1, PASSWORD_CHARACTERS_MAX, required=True)


class PasswordChange(Base):
    """The password in use, and the next."""

    currentPassword = Verbatim(1, PASSWORD_CHARACTERS_MAX, required=True)
    newPassword = Verbatim(PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX, required=True)


class UserCreate(Base):
    """A new user."""

    username = Line(1, 255, required=True)
    password = Verbatim(PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX, required=True)
    role = fields.String(required=True, validate=validate.OneOf(list(Role)))
    id = fields.UUID(load_default=None, allow_none=True)


class UserUpdate(Base):
    """What may change of a user; what is left out stays."""

    username = Line(1, 255)
    password = Verbatim(PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX)
    role = fields.String(validate=validate.OneOf(list(Role)))


class UserListArgs(PageArgs):
    """Which page of a list of users, in what order; the newest first unless asked."""

    orderBy = fields.String(load_default=None, validate=validate.OneOf(["username", "createdAt"]))
    sortDescending = fields.Boolean(load_default=None)


class UserOut(Base):
    """A user as others see them."""

    id = fields.UUID(required=True)
    username = fields.String(required=True)
    role = fields.String(required=True, validate=validate.OneOf(list(Role)))
    createdAt = InstantField(attribute="created_at", required=True)


UserPage = page_of(UserOut)


class MeOut(UserOut):
    """The caller."""

    isAdmin = fields.Function(
        lambda user: user.role == Role.ADMIN, required=True, metadata={"type": "boolean"}
    )


class MeAnswer(Base):
    """The credential of the request and whose it is."""

    token = fields.String(required=True)
    user = fields.Nested(MeOut, required=True)


class TeamBrief(Base):
    """A team as its members' answers name it."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    logoUrl = NOTHING


class WithTeams(MeOut):
    """The caller with their teams."""

    teams = fields.List(fields.Nested(TeamBrief), required=True)


class LoginOut(Base):
    """A token and whose it is."""

    token = fields.String(required=True)
    user = fields.Nested(WithTeams, required=True)


class TeamListArgs(PageArgs):
    """Which page of a list of teams, in what order; the newest first unless asked."""

    orderBy = fields.String(load_default=None, validate=validate.OneOf(["name", "createdAt"]))
    sortDescending = fields.Boolean(load_default=None)


class TeamCreate(Base):
    """A new team; an admin may make it for another owner."""

    name = Line(1, 100, required=True)
    ownerId = fields.UUID(load_default=None, allow_none=True)


class TeamUpdate(Base):
    """What may change of a team; what is left out stays."""

    name = Line(1, 100)
    accessCode = Line(8, 50, attribute="access_code")


class TeamJoin(Base):
    """The code that a team's owner gave."""

    accessCode = Line(1, 50, required=True)


class MemberUpdate(Base):
    """A role in a team."""

    role = fields.String(required=True, validate=validate.OneOf(list(TeamRole)))


class MemberCreate(MemberUpdate):
    """Who is to be a member, and as what."""

    userId = fields.UUID(required=True)


class TeamUserOut(Base):
    """A membership."""

    id = fields.UUID(required=True)
    teamId = fields.UUID(attribute="team_id", required=True)
    userId = fields.UUID(attribute="user_id", required=True)
    role = fields.String(required=True, validate=validate.OneOf(list(TeamRole)))
    createdAt = InstantField(attribute="created_at", required=True)
    updatedAt = InstantField(attribute="updated_at", required=True)


class UserBrief(Base):
    """A user as a team's members see them."""

    id = fields.UUID(required=True)
    username = fields.String(required=True)


class MemberOut(TeamUserOut):
    """A membership with whose it is."""

    user = fields.Nested(UserBrief, required=True)


MemberPage = page_of(MemberOut)


class TeamOut(Base):
    """A team. `accessCode` lets who knows it join; only who may change the team sees it."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    accessCode = fields.String(attribute="access_code", required=True, allow_none=True)
    logoUrl = NOTHING
    twoFactorRequired = fields.Constant(False, metadata={"type": "boolean"})
    createdAt = InstantField(attribute="created_at", required=True)
    updatedAt = InstantField(attribute="updated_at", required=True)
    deletedAt = NOTHING


TeamPage = page_of(TeamOut)


class ApiKeyCreate(Base):
    """A name to know the key by."""

    name = Line(1, 100, required=True)


class ApiKeyBase(Base):
    """What is known of a key forever."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    keyPrefix = fields.String(attribute="key_prefix", required=True)
    createdAt = InstantField(attribute="created_at", required=True)


class ApiKeyOut(ApiKeyBase):
    """A key as it is listed; its last use is known to the day."""

    lastUsedAt = fields.Function(
        lambda key: f"{key.last_used_on}T00:00:00.000Z" if key.last_used_on else None,
        metadata={"type": ["string", "null"], "format": "date-time"},
    )


class ApiKeyCreated(ApiKeyBase):
    """A new key, shown this once."""

    key = fields.String(required=True)


class ShareCreate(Base):
    """A new share; `parameters` are kept for the page that shows it."""

    name = Line(1, 200, required=True)
    parameters = Parameters(load_default=dict)


class ShareOfEntity(ShareCreate):
    """A new share of what `entityId` names: a pixel, the one kind that is shared here."""

    entityId = fields.UUID(required=True)
    shareType = fields.Integer(required=True, validate=validate.OneOf([SHARE_TYPE_PIXEL]))
    slug = ShareSlug()


class ShareUpdate(Base):
    """What may change of a share; what is left out stays."""

    name = Line(1, 200)
    slug = ShareSlug()
    parameters = Parameters()


class ShareOut(Base):
    """A share; whoever knows the slug may read the pixel's statistics."""

    id = fields.UUID(required=True)
    entityId = fields.UUID(attribute="pixel.id", required=True)
    name = fields.String(required=True)
    shareType = fields.Constant(SHARE_TYPE_PIXEL, metadata={"type": "integer"})
    slug = fields.String(required=True)
    parameters = fields.Dict(required=True)
    createdAt = InstantField(attribute="created_at", required=True)
    updatedAt = InstantField(attribute="updated_at", required=True)


SharePage = page_of(ShareOut)


class SharedOut(Base):
    """What a share's link opens; the pixel's id is `websiteId` too, for Umami's readers."""

    shareId = fields.UUID(attribute="id", required=True)
    shareType = fields.Constant(SHARE_TYPE_PIXEL, metadata={"type": "integer"})
    websiteId = fields.UUID(attribute="pixel.id", dump_only=True, required=True)
    pixelId = fields.UUID(attribute="pixel.id", required=True)
    parameters = fields.Dict(required=True)
    token = fields.String(required=True)
