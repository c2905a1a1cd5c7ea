"""The page with what to embed: a link for each person, one for everybody, and a preview."""

from __future__ import annotations

import html
import ipaddress
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from flask import Response, current_app, render_template, request, url_for
from itsdangerous import BadData
from itsdangerous.encoding import base64_decode, base64_encode

import auth
from core.clock import now
from core.errors import NotFound
from core.permissions import Action
from core.signatures import Signer
from hits.image import GIF
from models import Pixel
from pixels import pixels, recipients
from stats import questions
from stats.shapes import Event, Question
from web.pages import base
from web.pages.base import Pages, public
from web.request import public_base, public_url_for

blueprint = Pages("embed_page", __name__)

CAMPAIGN_CHARACTERS_MAX = 100
# Before any hit, whatever a clock or an import says.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Sender(NamedTuple):
    """A program that sends mail, and the tag that it replaces by a person's address."""

    key: str
    name: str
    tag: str
    note: str = ""


SENDERS = (
    Sender("mailchimp", "Mailchimp", "*|EMAIL|*"),
    Sender("buttondown", "Buttondown", "{{ subscriber.email }}"),
    Sender("listmonk", "listmonk", "{{ .Subscriber.Email }}"),
    Sender(
        "mailcoach",
        "Mailcoach",
        "{{ subscriber.email }}",
        "Before version 6 the tag was ::subscriber.email::",
    ),
    Sender("keila", "Keila", "{{ contact.email }}"),
    Sender("merge", "CSV for a mail merge", ""),
)


class Piece(NamedTuple):
    """A piece of a snippet; those of a kind are marked."""

    text: str
    kind: str = ""


@blueprint.get("/pixels/<uuid:pixel_id>/embed")
def show_embed(pixel_id: uuid.UUID) -> str:
    """GET: what to embed, and whether a hit has come yet. 200; 404 for a stranger."""
    pixel = auth.pixel_for(auth.caller(), pixel_id, Action.READ_PIXEL)
    sender = next(
        (candidate for candidate in SENDERS if candidate.key == request.args.get("sender")),
        SENDERS[0],
    )
    campaign = request.args.get("campaign", "").strip()[:CAMPAIGN_CHARACTERS_MAX]
    url = recipients.url_of(public_base(), pixel.slug, utm_campaign=campaign or None)
    host = urlsplit(public_base()).hostname or ""
    return render_template(
        "pixel_embed.html",
        senders=SENDERS,
        sender=sender,
        campaign=campaign,
        personal=_personal(pixel, sender, campaign) if sender.tag else [],
        everybody={"url": url, "html": recipients.img_of(url)},
        private_host=host if is_private(host) else "",
        is_loopback=_is_loopback(host),
        hit=newest_hit(pixel),
        newest_id=questions.newest_id(pixel.number) or "",
        preview_url=preview_url(pixel),
        make_links=url_for("merge_page.show_links", pixel_id=pixel.id),
        privacy_notice=_privacy_notice(pixel),
        may_change=base.may(auth.pixel_for, pixel.id, Action.CHANGE_PIXEL),
        **base.of_pixel(pixel),
    )


@blueprint.get("/preview/<token>.gif")
@public
def show_preview(token: str) -> Response:
    """GET: the image that a pixel's mails carry, never counted. No session. 200; 404."""
    try:
        pixel_id = uuid.UUID(bytes=base64_decode(_signer().unsign(token)))
    except (BadData, ValueError):
        raise NotFound from None
    if not pixels.is_there(pixel_id):
        raise NotFound
    response = Response(GIF, content_type="image/gif")
    # The same as of the image itself, so that a mail program treats it alike.
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def preview_url(pixel: Pixel) -> str:
    """Return the address at which an owner looks at the image without a hit."""
    token = _signer().sign(base64_encode(pixel.id.bytes)).decode()
    return public_url_for("embed_page.show_preview", token=token)


def newest_hit(pixel: Pixel) -> Event | None:
    """Return a pixel's newest hit of any class, once there is one."""
    found = questions.events(Question(pixel.number, LONG_AGO, now(), "all"), page_size=1)
    return found[0] if found else None


def is_private(host: str) -> bool:
    """Tell whether a host is one that readers' mail programs can't reach."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".lan", ".internal"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _personal(pixel: Pixel, sender: Sender, campaign: str) -> list[Piece]:
    """Return the snippet of a person's own link, its parts that vary marked.

    The tag goes in as it is: a program looks for it letter by letter.
    """
    base_url = public_base()
    path = recipients.url_of("", pixel.slug)
    joint = "&" if "?" in path else "?"
    pieces = [
        Piece('<img src="'),
        Piece(html.escape(base_url), "host"),
        Piece(html.escape(f"{path}{joint}r=")),
        Piece(sender.tag, "tag"),
    ]
    if campaign:
        pieces += [Piece("&amp;utm_campaign="), Piece(quote(campaign, safe=""), "campaign")]
    return [*pieces, Piece('" width="1" height="1" alt="">')]


def _privacy_notice(pixel: Pixel) -> str:
    """Return a paragraph for the sender's privacy notice that is true of a pixel as it is now."""
    if pixel.privacy == "anonymous":
        return (
            "Our mails carry a small image. When your mail program loads it, our server counts that"
            " a mail was opened, when, and in which country. Who opened it is not noted, nor with"
            " which program; your IP address is not stored. Images can also be switched off in your"
            " mail program."
        )
    days = pixel.retention_days or current_app.config["SETTINGS"].retention_days
    named = "If you agreed to it, this is noted under your name. " * (pixel.privacy == "consent")
    kept = f"for {days} days, totals for longer" if days else "for as long as we keep our mailings"
    return (
        "Our mails carry a small image. When your mail program loads it, our server notes that this"
        " mail was opened, when, and with which program, and from it the country; your IP address"
        f" is not stored. {named}We do this to see whether our mails are read. The records are kept"
        f" {kept}. You can object at any time by the link in each mail: your opens are then counted"
        " without your name. You can ask us what we keep about you, and have it deleted. Images can"
        " also be switched off in your mail program."
    )


def _signer() -> Signer:
    keys: Any = current_app.config["SECRET_KEYS"]
    return Signer(list(keys), salt=b"preview")
