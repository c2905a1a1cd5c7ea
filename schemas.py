"""The shapes of what comes in and goes out, in marshmallow; no database.

Lines are trimmed and hold no control characters; unknown keys are ignored; instants are
ISO 8601 in UTC with milliseconds and `Z`.
"""

from __future__ import annotations

from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_dump, post_load, validate

from core.clock import iso
from core.fields import (
    BoundedList,
    InstantField,
    Line,
    Parameters,
    SentAtField,
    ShareSlug,
    Verbatim,
    WholeNumber,
)
from core.lists import ListQuery
from core.permissions import Role, Scope, TeamRole

SENT_COUNT_MAX = 1_000_000_000
DAYS_MAX = 36_500
SHARE_TYPE_PIXEL = 3  # Umami's number.
PAGE_SIZE_MAX = 100
PAGE_MAX = 1_000_000
RECIPIENTS_ISSUED_MAX = 10_000
MAILINGS_MAX = 100
OPENS_MAX = 1_000_000_000
PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 1000
# What a webhook may be told of, in the order in which a hit is told.
EVENTS = ("hit", "open", "first-open")
# Anyone who knows the code may join.
ACCESS_CODE_CHARACTERS_MIN = 16
# Umami has it and we don't.
NOTHING = fields.Constant(None, metadata={"enum": [None]})


# ruff: noqa: N815  The names are the JSON keys.


class Shape(Schema):
    """A shape that ignores keys it doesn't know."""

    class Meta:
        unknown = EXCLUDE

    def __deepcopy__(self, _memo: Any) -> Shape:
        # The document's copies of each would be 6 MB.
        return self


class PixelCreate(Shape):
    """A new pixel."""

    name = Line(1, 100, required=True)
    slug = Line(1, 100, required=True)
    teamId = fields.UUID(load_default=None, allow_none=True)
    id = fields.UUID(load_default=None, allow_none=True)


class PixelUpdate(Shape):
    """What may change of a pixel; what is left out stays."""

    name = Line(1, 100)
    slug = Line(1, 100)
    privacy = fields.String(validate=validate.OneOf(["full", "consent", "anonymous"]))
    sentAt = SentAtField(attribute="sent_at", allow_none=True)
    sentCount = WholeNumber(
        attribute="sent_count", allow_none=True, validate=validate.Range(0, SENT_COUNT_MAX)
    )
    retentionDays = WholeNumber(
        attribute="retention_days", allow_none=True, validate=validate.Range(1, DAYS_MAX)
    )


class PixelChange(PixelUpdate):
    """What may change of a pixel, and whom it moves to: a user or a team."""

    userId = fields.UUID(load_default=None, allow_none=True)
    teamId = fields.UUID(load_default=None, allow_none=True)


class EmbedArgs(Shape):
    """Whom the link is for, and when the mail is sent."""

    recipient = Line(0, 200, load_default="")
    sentAt = SentAtField(load_default=None)


class EmbedOut(Shape):
    """What to embed, and where the person it is for can opt out of being named."""

    url = fields.String(required=True)
    html = fields.String(required=True)
    optOutUrl = fields.String(attribute="opt_out_url")
    optedOut = fields.Boolean(attribute="opted_out")

    @post_dump
    def leave_out(self, shown: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Leave out what is nobody's, and the mark of those who didn't opt out."""
        return {name: value for name, value in shown.items() if value not in (None, False)}


class PixelCreated(Shape):
    """A new pixel, with exactly the keys of the document that this began with."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    slug = fields.String(required=True)
    userId = fields.UUID(attribute="user_id", required=True, allow_none=True)
    teamId = fields.UUID(attribute="team_id", required=True, allow_none=True)
    createdAt = InstantField(attribute="created_at", required=True)


class PixelOut(PixelCreated):
    """A pixel. `updatedAt` is when it was made until it changes."""

    updatedAt = fields.Function(
        lambda pixel: iso(pixel.updated_at or pixel.created_at),
        required=True,
        metadata={"type": "string", "format": "date-time"},
    )
    deletedAt = NOTHING
    privacy = fields.String(required=True)
    sentAt = InstantField(attribute="sent_at", required=True, allow_none=True)
    sentCount = fields.Integer(attribute="sent_count", required=True, allow_none=True)
    retentionDays = fields.Integer(attribute="retention_days", required=True, allow_none=True)


class PageSize(fields.Integer):
    """How many on a page: from 1; more than the limit counts as the limit, as clients expect."""

    def __init__(self) -> None:
        super().__init__(load_default=20, validate=validate.Range(1))

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        return min(super()._deserialize(value, attr, data, **kwargs), PAGE_SIZE_MAX)


class PageArgs(Shape):
    """Which page of a list, and how large."""

    page = fields.Integer(load_default=1, validate=validate.Range(1, PAGE_MAX))
    pageSize = PageSize()
    search = Line(0, 200, load_default="")

    @post_load
    def _to_list_query(self, arguments: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Put what is asked of every list together as `list`, beside what is asked of this one."""
        names = ("page", "pageSize", "search", "orderBy", "sortDescending")
        return {"list": ListQuery(*(arguments.pop(name, None) for name in names)), **arguments}


class PixelListArgs(PageArgs):
    """Which page of a list of pixels, in what order; the newest first unless asked."""

    orderBy = fields.String(
        load_default=None, validate=validate.OneOf(["name", "slug", "createdAt"])
    )
    sortDescending = fields.Boolean(load_default=None)


def page_of(item: type[Schema]) -> type[Schema]:
    """Return the shape of a page of `item`s."""
    return Shape.from_dict(
        {
            "data": fields.List(fields.Nested(item), required=True),
            "count": fields.Integer(required=True),
            "page": fields.Integer(required=True),
            "pageSize": fields.Integer(attribute="page_size", required=True),
        },
        name=item.__name__.removesuffix("Out") + "Page",
    )


PixelPage = page_of(PixelOut)


class Ok(Shape):
    """Done."""

    ok = fields.Boolean(required=True)


class RecipientsIssue(Shape):
    """Whom signed links are for, and when the mail is sent."""

    recipients = BoundedList(Line(1, 200), RECIPIENTS_ISSUED_MAX, required=True)
    sentAt = SentAtField(load_default=None, allow_none=True)
    consent = fields.Boolean(
        load_default=False,
        metadata={"description": "They consented to be named, which some pixels ask for."},
    )


class RecipientLink(EmbedOut):
    """What to embed in one recipient's mail."""

    recipient = fields.String(required=True)


class RecipientLinks(Shape):
    """Signed links, in the order of the recipients."""

    data = fields.List(fields.Nested(RecipientLink), required=True)


class StatusField(fields.String):
    """What is known of somebody who was sent a mail."""

    def __init__(self, **kwargs: Any) -> None:
        one = validate.OneOf(["opened", "machine", "unopened"])
        super().__init__(validate=one, **kwargs)


class RecipientListArgs(PageArgs):
    """Which page of a pixel's recipients, in what order; the last to open first unless asked."""

    orderBy = fields.String(
        load_default=None,
        validate=validate.OneOf(["recipient", "firstOpenedAt", "lastOpenedAt", "opens"]),
    )
    sortDescending = fields.Boolean(load_default=None)
    status = StatusField(load_default=None)
    opensMin = fields.Integer(load_default=0, validate=validate.Range(0, OPENS_MAX))


class RecipientExportArgs(Shape):
    """Which of a pixel's recipients, and how they are written."""

    format = fields.String(load_default="csv", validate=validate.OneOf(["csv", "jsonl"]))
    search = Line(0, 200, load_default="")
    status = StatusField(load_default=None)


class RecipientOut(Shape):
    """A recipient, and the hits of their links by class; a plain link's is not verified.

    `client` and `reason` are those of their last open, else of the last fetch.
    """

    recipient = fields.String(required=True)
    verified = fields.Boolean(required=True)
    status = StatusField(required=True)
    sentAt = InstantField(attribute="sent_at", required=True, allow_none=True)
    optedOut = fields.Boolean(attribute="opted_out", required=True)
    firstOpenedAt = InstantField(attribute="first_opened_at", required=True, allow_none=True)
    lastOpenedAt = InstantField(attribute="last_opened_at", required=True, allow_none=True)
    opens = fields.Integer(required=True)
    prefetches = fields.Integer(required=True)
    bots = fields.Integer(required=True)
    client = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)


class RecipientCounts(Shape):
    """How many people a pixel was issued to by status, without those who opted out."""

    all = fields.Integer(required=True)
    opened = fields.Integer(required=True)
    machine = fields.Integer(required=True)
    unopened = fields.Integer(required=True)


class RecipientPage(page_of(RecipientOut)):  # type: ignore[misc]
    """A page of a pixel's recipients, and how many people there are, whatever was asked for."""

    counts = fields.Nested(RecipientCounts, required=True)


class PersonArgs(Shape):
    """Who it is."""

    name = Line(1, 200, required=True)


class PersonOut(Shape):
    """A person over all pixels: how many they were sent, and how many of these they opened."""

    recipient = fields.String(required=True)
    pixels = fields.Integer(required=True)
    opened = fields.Integer(required=True)
    lastOpenedAt = InstantField(attribute="last_opened_at", required=True, allow_none=True)
    optedOut = fields.Boolean(attribute="opted_out", required=True)


PersonPage = page_of(PersonOut)


class PersonHitOut(Shape):
    """All that is kept of one of a person's hits."""

    createdAt = InstantField(attribute="at", required=True)
    hitClass = fields.String(attribute="source.hit_class", data_key="class", required=True)
    reason = fields.String(attribute="source.reason", required=True)
    userAgent = fields.String(attribute="source.user_agent", required=True)
    country = fields.String(attribute="source.country", required=True, allow_none=True)
    language = fields.String(attribute="source.language", required=True, allow_none=True)
    hostname = fields.String(attribute="source.hostname", required=True, allow_none=True)
    referrer = fields.String(attribute="source.referrer", required=True, allow_none=True)
    query = fields.String(attribute="source.query", required=True, allow_none=True)


class PersonOfPixelOut(RecipientOut):
    """What is kept of a person on one pixel."""

    class Meta(Shape.Meta):
        exclude = ("recipient", "optedOut")

    pixelId = fields.UUID(attribute="pixel_id", required=True)
    name = fields.String(required=True)
    consent = fields.Boolean(required=True)
    issuedAt = InstantField(attribute="issued_at", required=True, allow_none=True)
    hits = fields.List(fields.Nested(PersonHitOut), required=True)


class OptOutOut(Shape):
    """Somebody who opted out; without a name once they are forgotten."""

    recipient = fields.String(required=True, allow_none=True)
    ownerId = fields.Function(
        lambda said: str(said.owner) if said.owner.int else None,
        required=True,
        metadata={"type": ["string", "null"], "format": "uuid"},
    )
    saidAt = InstantField(attribute="said_at", required=True)
    saidBy = fields.String(
        attribute="said_by",
        required=True,
        validate=validate.OneOf(["link", "owner", "operator"]),
    )


OptOutPage = page_of(OptOutOut)


class WholePersonOut(Shape):
    """Everything that is kept of a person, on the pixels that the caller may read."""

    recipient = fields.String(required=True)
    optedOut = fields.Boolean(attribute="opted_out", required=True)
    optOuts = fields.List(fields.Nested(OptOutOut), attribute="opt_outs", required=True)
    pixels = fields.List(fields.Nested(PersonOfPixelOut), required=True)


class IdList(fields.List[Any]):
    """Ids in a query, repeated or separated by commas."""

    def __init__(self, high: int, **kwargs: Any) -> None:
        super().__init__(fields.UUID(), validate=validate.Length(1, high), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        ids = [id for text in value for id in str(text).split(",") if id]
        return super()._deserialize(ids, attr, data, **kwargs)


class MailingsArgs(Shape):
    """Which pixels."""

    ids = IdList(MAILINGS_MAX, required=True)


class HourOut(Shape):
    """An hour since sending: how many opened for the first time in it, and all of its opens."""

    hour = fields.Integer(required=True)
    opened = fields.Integer(required=True)
    opens = fields.Integer(required=True)


class MailingOut(Shape):
    """How a mailing did.

    `basis` is `recipients` where people have links of their own, `count` where the pixel's
    `sentCount` says how many it went to, else null.
    """

    pixelId = fields.UUID(attribute="pixel_id", required=True)
    sentAt = InstantField(attribute="sent_at", required=True, allow_none=True)
    basis = fields.String(
        required=True, allow_none=True, validate=validate.OneOf(["recipients", "count"])
    )
    sent = fields.Integer(required=True, allow_none=True)
    opened = fields.Integer(required=True)
    machine = fields.Integer(required=True, allow_none=True)
    unopened = fields.Integer(required=True, allow_none=True)
    openRate = fields.Float(attribute="open_rate", required=True, allow_none=True)
    opens = fields.Integer(required=True)
    firstOpenedAt = InstantField(attribute="first_opened_at", required=True, allow_none=True)
    medianSecondsToOpen = fields.Integer(
        attribute="median_seconds_to_open", required=True, allow_none=True
    )


class MailingWithHours(MailingOut):
    """How a mailing did, and its first week by hours since sending."""

    hours = fields.List(fields.Nested(HourOut), required=True)


class Mailings(Shape):
    """How several mailings did, in the order asked for."""

    data = fields.List(fields.Nested(MailingOut), required=True)


# What a pixel is called in a payload.
PIXEL_NAMES = ("pixel", "website")


class SendPayload(Shape):
    """What a hit without an image tells of itself; all but the pixel may be left out.

    Umami's clients call the pixel a website: exactly one of the two is there. `timestamp` and `ip`
    are read of callers who may change the pixel, and of no others, whatever they hold.
    """

    pixel = fields.UUID()
    website = fields.UUID()
    url = fields.String(load_default="")
    referrer = fields.String(load_default="")
    hostname = fields.String(load_default="")
    language = fields.String(load_default="")
    userAgent = fields.String(load_default="")
    id = fields.String(load_default="", metadata={"description": "Who it is, unverified."})
    ip = fields.Raw(
        load_default=None,
        metadata={
            "description": "The address that the hit came from, as text; others' is not read.",
            "examples": ["203.0.113.7"],
        },
    )
    timestamp = fields.Raw(
        load_default=None,
        metadata={
            "description": "When the hit was, in seconds since 1970; others' is not read.",
            "examples": [1_700_000_000],
        },
    )

    @post_load
    def _to_one_pixel(self, payload: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        found = [payload[name] for name in PIXEL_NAMES if name in payload]
        if len(found) != 1:
            raise ValidationError("Exactly one of pixel and website must be there.", "pixel")
        return {**payload, "pixel": found[0]}


class Believed(Shape):
    """What is read of a payload only of callers who may change the pixel."""

    ip = fields.IP(load_default=None, allow_none=True)
    timestamp = WholeNumber(load_default=None, allow_none=True, validate=validate.Range(0))


class Send(Shape):
    """A hit without an image; of the types, only an event is stored."""

    type = fields.String(
        required=True, validate=validate.OneOf(["event", "identify", "performance"])
    )
    payload = fields.Nested(SendPayload, required=True)


class BatchFailure(Shape):
    """What of a batch was not stored, by its place, and why."""

    index = fields.Integer(required=True)
    response = fields.Nested("ErrorOut", required=True)


class BatchOut(Shape):
    """What became of a batch; `cache` is the first one's."""

    size = fields.Integer(required=True)
    processed = fields.Integer(required=True)
    errors = fields.Integer(required=True)
    details = fields.List(fields.Nested(BatchFailure), required=True)
    cache = fields.String(required=True, allow_none=True)


class SendOut(Shape):
    """Whom a hit was counted for, as far as that may be known."""

    cache = fields.String()
    sessionId = fields.UUID()
    visitId = fields.UUID()


class ErrorDetail(Shape):
    """What went wrong: a sentence, a code for programs, and for a validation each field's."""

    message = fields.String(required=True)
    code = fields.String(required=True)
    status = fields.Integer(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))


class ErrorOut(Shape):
    """The one shape of every error."""

    error = fields.Nested(ErrorDetail, required=True)


class LoginArgs(Shape):
    """A name and a password; both are taken as they are."""

    username = Verbatim(1, 255, required=True)
    password = Verbatim(1, PASSWORD_CHARACTERS_MAX, required=True)


class PasswordChange(Shape):
    """The password in use, and the next."""

    currentPassword = Verbatim(1, PASSWORD_CHARACTERS_MAX, required=True)
    newPassword = Verbatim(PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX, required=True)


class UserCreate(Shape):
    """A new user."""

    username = Line(1, 255, required=True)
    password = Verbatim(PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX, required=True)
    role = fields.String(required=True, validate=validate.OneOf(list(Role)))
    id = fields.UUID(load_default=None, allow_none=True)


class InvitationCreate(Shape):
    """Whom an invitation lets in: with which role, into which team."""

    role = fields.String(required=True, validate=validate.OneOf(list(Role)))
    teamId = fields.UUID(load_default=None, allow_none=True)


class InvitationAccept(Shape):
    """The account that somebody invited makes."""

    username = Line(1, 255, required=True)
    password = Verbatim(PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX, required=True)


class UserUpdate(Shape):
    """What may change of a user; what is left out stays."""

    username = Line(1, 255)
    password = Verbatim(PASSWORD_CHARACTERS_MIN, PASSWORD_CHARACTERS_MAX)
    role = fields.String(validate=validate.OneOf(list(Role)))


class UserListArgs(PageArgs):
    """Which page of a list of users, in what order; the newest first unless asked."""

    orderBy = fields.String(load_default=None, validate=validate.OneOf(["username", "createdAt"]))
    sortDescending = fields.Boolean(load_default=None)


class UserOut(Shape):
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


class MeAnswer(Shape):
    """The credential of the request and whose it is."""

    token = fields.String(required=True)
    user = fields.Nested(MeOut, required=True)


class TeamBrief(Shape):
    """A team as its members' answers name it."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    logoUrl = NOTHING


class WithTeams(MeOut):
    """The caller with their teams."""

    teams = fields.List(fields.Nested(TeamBrief), required=True)


class LoginOut(Shape):
    """A token and whose it is."""

    token = fields.String(required=True)
    user = fields.Nested(WithTeams, required=True)


class TeamListArgs(PageArgs):
    """Which page of a list of teams, in what order; the newest first unless asked."""

    orderBy = fields.String(load_default=None, validate=validate.OneOf(["name", "createdAt"]))
    sortDescending = fields.Boolean(load_default=None)


class TeamCreate(Shape):
    """A new team; an admin may make it for another owner."""

    name = Line(1, 100, required=True)
    ownerId = fields.UUID(load_default=None, allow_none=True)


class TeamUpdate(Shape):
    """What may change of a team; what is left out stays."""

    name = Line(1, 100)
    accessCode = Line(ACCESS_CODE_CHARACTERS_MIN, 50, attribute="access_code")


class TeamJoin(Shape):
    """The code that a team's owner gave."""

    accessCode = Line(1, 50, required=True)


class MemberUpdate(Shape):
    """A role in a team."""

    role = fields.String(required=True, validate=validate.OneOf(list(TeamRole)))


class MemberCreate(MemberUpdate):
    """Who is to be a member, and as what."""

    userId = fields.UUID(required=True)


class TeamUserOut(Shape):
    """A membership."""

    id = fields.UUID(required=True)
    teamId = fields.UUID(attribute="team_id", required=True)
    userId = fields.UUID(attribute="user_id", required=True)
    role = fields.String(required=True, validate=validate.OneOf(list(TeamRole)))
    createdAt = InstantField(attribute="created_at", required=True)
    updatedAt = InstantField(attribute="updated_at", required=True)


class UserBrief(Shape):
    """A user as a team's members see them."""

    id = fields.UUID(required=True)
    username = fields.String(required=True)


class MemberOut(TeamUserOut):
    """A membership with whose it is."""

    user = fields.Nested(UserBrief, required=True)


MemberPage = page_of(MemberOut)


class TeamOut(Shape):
    """A team. Anyone who knows `accessCode` may join; only those who may change the team see it."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    accessCode = fields.String(attribute="access_code", required=True, allow_none=True)
    logoUrl = NOTHING
    twoFactorRequired = fields.Constant(False, metadata={"type": "boolean"})
    createdAt = InstantField(attribute="created_at", required=True)
    updatedAt = InstantField(attribute="updated_at", required=True)
    deletedAt = NOTHING


class TeamWithMembers(TeamOut):
    """A team with the first hundred of its members, in the order they came."""

    members = fields.List(fields.Nested(MemberOut), required=True)


TeamPage = page_of(TeamOut)


class ApiKeyCreate(Shape):
    """A name to know the key by, and how far it reaches: everywhere and for good unless said."""

    name = Line(1, 100, required=True)
    scope = fields.String(load_default=Scope.ALL.value, validate=validate.OneOf(list(Scope)))
    pixelId = fields.UUID(load_default=None, allow_none=True)
    teamId = fields.UUID(load_default=None, allow_none=True)
    expiresAt = InstantField(load_default=None, allow_none=True)


class ApiKeyBase(Shape):
    """What is known of a key forever."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    keyPrefix = fields.String(attribute="key_prefix", required=True)
    createdAt = InstantField(attribute="created_at", required=True)
    scope = fields.String(required=True, validate=validate.OneOf(list(Scope)))
    pixelId = fields.UUID(attribute="pixel_id", required=True, allow_none=True)
    teamId = fields.UUID(attribute="team_id", required=True, allow_none=True)
    expiresAt = InstantField(attribute="expires_at", required=True, allow_none=True)


class ApiKeyOut(ApiKeyBase):
    """A key as it is listed; its last use is known to the day."""

    lastUsedAt = fields.Function(
        lambda key: f"{key.last_used_on}T00:00:00.000Z" if key.last_used_on else None,
        metadata={"type": ["string", "null"], "format": "date-time"},
    )


class ApiKeyCreated(ApiKeyBase):
    """A new key, shown this once."""

    key = fields.String(required=True)


class WebhookCreate(Shape):
    """Where to send what; of one pixel, or of all of the team or of the caller."""

    url = Line(1, 2000, required=True)
    pixelId = fields.UUID(load_default=None, allow_none=True)
    teamId = fields.UUID(load_default=None, allow_none=True)
    events = BoundedList(fields.String(validate=validate.OneOf(EVENTS)), 10, required=True)


class WebhookUpdate(Shape):
    """What may change of a webhook; what is left out stays. `active` makes a paused one go on."""

    url = Line(1, 2000)
    events = BoundedList(fields.String(validate=validate.OneOf(EVENTS)), 10)
    status = fields.String(validate=validate.OneOf(["active", "paused"]))


class WebhookListArgs(PageArgs):
    """Which page of the caller's webhooks, those of their teams included."""

    pixelId = fields.UUID(load_default=None)
    teamId = fields.UUID(load_default=None)


class WebhookOut(Shape):
    """A webhook; `problem` says why it is paused or ended, or what was lost."""

    id = fields.UUID(required=True)
    url = fields.String(required=True)
    pixelId = fields.UUID(attribute="pixel_id", required=True, allow_none=True)
    userId = fields.UUID(attribute="user_id", required=True, allow_none=True)
    teamId = fields.UUID(attribute="team_id", required=True, allow_none=True)
    events = fields.List(fields.String(), required=True)
    status = fields.String(required=True, validate=validate.OneOf(["active", "paused", "ended"]))
    problem = fields.String(required=True, allow_none=True)
    createdAt = InstantField(attribute="created_at", required=True)


class WebhookCreated(WebhookOut):
    """A new webhook with its secret, which is shown this once."""

    secret = fields.String(required=True)


WebhookPage = page_of(WebhookOut)


class DeliveryOut(Shape):
    """An attempt to deliver an event; without an answer `status` is null and `error` says why."""

    at = fields.String(required=True)
    type = fields.String(required=True)
    hitId = fields.UUID(required=True, allow_none=True)
    attempt = fields.Integer(required=True)
    status = fields.Integer(required=True, allow_none=True)
    milliseconds = fields.Integer(required=True)
    error = fields.String(required=True, allow_none=True)


class DeliveriesOut(Shape):
    """The newest hundred attempts, the newest first."""

    data = fields.List(fields.Nested(DeliveryOut), required=True)


class ShareCreate(Shape):
    """A new share; `parameters` are kept for the page that shows it."""

    name = Line(1, 200, required=True)
    parameters = Parameters(load_default=dict)


class ShareOfEntity(ShareCreate):
    """A new share of what `entityId` names: a pixel, the one kind that is shared here."""

    entityId = fields.UUID(required=True)
    shareType = fields.Integer(required=True, validate=validate.OneOf([SHARE_TYPE_PIXEL]))
    slug = ShareSlug()


class ShareUpdate(Shape):
    """What may change of a share; what is left out stays."""

    name = Line(1, 200)
    slug = ShareSlug()
    parameters = Parameters()


class ShareOut(Shape):
    """A share; anyone who knows the slug may read the pixel's statistics."""

    id = fields.UUID(required=True)
    entityId = fields.UUID(attribute="pixel.id", required=True)
    name = fields.String(required=True)
    shareType = fields.Constant(SHARE_TYPE_PIXEL, metadata={"type": "integer"})
    slug = fields.String(required=True)
    parameters = fields.Dict(required=True)
    createdAt = InstantField(attribute="created_at", required=True)
    updatedAt = InstantField(attribute="updated_at", required=True)


SharePage = page_of(ShareOut)


class SharedOut(Shape):
    """What a share's link opens; the pixel's id is `websiteId` too, for Umami's readers."""

    shareId = fields.UUID(attribute="id", required=True)
    shareType = fields.Constant(SHARE_TYPE_PIXEL, metadata={"type": "integer"})
    websiteId = fields.UUID(attribute="pixel.id", dump_only=True, required=True)
    pixelId = fields.UUID(attribute="pixel.id", required=True)
    parameters = fields.Dict(required=True)
    token = fields.String(required=True)
