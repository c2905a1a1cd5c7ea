"""The page behind an opt-out link: one button, for anybody, without script, cookie or account.

A mail program that looks at links ahead of people changes nothing: it takes a POST.
"""

from __future__ import annotations

from typing import NamedTuple

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from core.errors import NotFound
from people import accounts
from pixels import opt_outs
from pixels.opt_outs import OptOutRequest
from web.request import links

blueprint = Blueprint("opt_out", __name__)


class OptOutWords(NamedTuple):
    """What the page says in one language."""

    title: str
    lead: str
    button: str
    note: str
    done_title: str
    done: str
    somebody: str


WORDS = {
    "en": OptOutWords(
        "Read without your name",
        "Mails from {sender} carry an image that tells them when you open a mail. If you opt out,"
        " your opens are counted without your name, in all their mails, old ones too.",
        "Opt out",
        "You keep getting the mails: this doesn’t take you off a list. No account, no cookie.",
        "You have opted out",
        "From now on, your opens of mails from {sender} are counted without your name, old mails"
        " included. There is nothing more to do.",
        "the sender",
    ),
    "fr": OptOutWords(
        "Lire sans votre nom",
        "Les e-mails de {sender} contiennent une image qui indique à l’expéditeur quand vous ouvrez"
        " un message. Si vous vous y opposez, vos ouvertures sont comptées sans votre nom, dans"
        " tous ses e-mails, même anciens.",
        "M’opposer",
        "Vous continuez à recevoir les e-mails : ceci ne vous désinscrit d’aucune liste. Ni compte,"
        " ni cookie.",
        "Votre opposition est enregistrée",
        "Désormais, vos ouvertures des e-mails de {sender} sont comptées sans votre nom, y compris"
        " pour les anciens messages. Vous n’avez rien d’autre à faire.",
        "l’expéditeur",
    ),
    "de": OptOutWords(
        "Lesen ohne Ihren Namen",
        "E-Mails von {sender} enthalten ein Bild, das dem Absender zeigt, wann Sie eine E-Mail"
        " öffnen. Wenn Sie widersprechen, werden Ihre Öffnungen ohne Ihren Namen gezählt, in allen"
        " E-Mails, auch in alten.",
        "Widersprechen",
        "Sie erhalten die E-Mails weiterhin: Dies meldet Sie von keiner Liste ab. Kein Konto, kein"
        " Cookie.",
        "Ihr Widerspruch gilt",
        "Ab jetzt werden Ihre Öffnungen von E-Mails von {sender} ohne Ihren Namen gezählt, auch"
        " die alter E-Mails. Sie müssen nichts weiter tun.",
        "diesem Absender",
    ),
    "it": OptOutWords(
        "Leggere senza il tuo nome",
        "Le e-mail di {sender} contengono un’immagine che segnala quando apri un messaggio. Se ti"
        " opponi, le tue aperture vengono contate senza il tuo nome, in tutte le e-mail, anche in"
        " quelle vecchie.",
        "Mi oppongo",
        "Continuerai a ricevere le e-mail: questo non ti cancella da nessuna lista. Nessun account,"
        " nessun cookie.",
        "Opposizione registrata",
        "Da ora le tue aperture delle e-mail di {sender} vengono contate senza il tuo nome, anche"
        " per i vecchi messaggi. Non devi fare altro.",
        "questo mittente",
    ),
    "es": OptOutWords(
        "Leer sin su nombre",
        "Los correos de {sender} llevan una imagen que indica cuándo abre usted un mensaje. Si se"
        " opone, sus aperturas se cuentan sin su nombre, en todos sus correos, también en los"
        " antiguos.",
        "Oponerme",
        "Seguirá recibiendo los correos: esto no le da de baja de ninguna lista. Sin cuenta, sin"
        " cookies.",
        "Su oposición está registrada",
        "A partir de ahora, sus aperturas de los correos de {sender} se cuentan sin su nombre,"
        " también las de correos antiguos. No tiene que hacer nada más.",
        "este remitente",
    ),
}


@blueprint.get(f"{opt_outs.OPT_OUT_PATH}<token>")
def show(token: str) -> Response:
    """GET: say what opting out means, with the one button that does it. 200; 404."""
    asked = _asked(token)
    return _page(asked, is_done=asked.holds)


@blueprint.post(f"{opt_outs.OPT_OUT_PATH}<token>")
def do(token: str) -> Response:
    """POST: opt out; no form token, since the link is what allows it. 200; 404."""
    asked = _asked(token)
    opt_outs.follow_link(asked)
    return _page(asked, is_done=True)


def _asked(token: str) -> OptOutRequest:
    asked = opt_outs.read_link(links(), token)
    if asked is None:
        raise NotFound("This link is not whole. Copy it from the mail once more.")
    return asked


def _page(asked: OptOutRequest, *, is_done: bool) -> Response:
    asked_for = (tag.partition("-")[0].lower() for tag in request.accept_languages.values())
    language = next((tag for tag in asked_for if tag in WORDS), "en")
    words = WORDS[language]
    lead, _, rest = (words.done if is_done else words.lead).partition("{sender}")
    page = render_template(
        "opt_out.html",
        language=language,
        words=words,
        is_done=is_done,
        lead=lead,
        sender=accounts.owner_name(asked.link.owner) or words.somebody,
        rest=rest,
    )
    response = make_response(page)
    response.content_language.add(language)
    response.vary.add("Accept-Language")
    return response
