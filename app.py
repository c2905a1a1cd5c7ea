"""`create_app(settings)`: wiring, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from flask import Flask

from auth import TOKEN_DAYS_MAX
from core.application import configure
from core.database import db, engine_of_hits
from core.settings import Settings
from core.version import VERSION
from hits import operator_rules
from hits.bursts import Sightings
from hits.countries import lookup_with
from hits.image import Collector
from hits.intake import Intake
from hits.metrics import Metrics
from hits.new_values import NewValues
from hits.recorder import Recorder
from web import errors, rate_limit, security_headers
from web.api import (
    accounts,
    mailings,
    recipients,
    reports,
    send,
    service,
    shares,
    teams,
    webhooks,
    websites,
)
from web.api import pixels as pixels_api
from web.api.blueprint import JsonApi
from web.api.json_body import BODY_BYTES_MAX
from web.forwarded import Forwarded
from web.pages import (
    account,
    base,
    compare,
    docs,
    embed,
    invitations,
    merge,
    opt_out,
    person,
    pixel_settings,
    report,
    sign_in,
    users,
)
from web.pages import pixels as pixels_pages
from web.pages import recipients as recipients_pages
from web.pages import teams as teams_pages
from web.pages import webhooks as webhooks_pages
from web.shared_answer import SharedAnswer


def create_app(settings: Settings) -> Flask:
    """Build the application; connects to nothing yet, so it is safe to fork afterwards."""
    app = Flask(__name__, template_folder="web/pages/templates", static_folder="web/pages/static")
    # A path with two slashes is not there: to redirect would answer HTML where JSON is promised.
    app.url_map.merge_slashes = False
    configure(app, settings)
    app.config.update(
        SESSION_COOKIE_NAME=security_headers.cookie_name(app.config["SECRET_KEYS"][0]),
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(days=TOKEN_DAYS_MAX),
        MAX_CONTENT_LENGTH=BODY_BYTES_MAX,
        API_TITLE="Pixelkeep",
        API_VERSION=VERSION,
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    with app.app_context():
        engine = db.engine

    links, metrics = app.extensions["links"], Metrics()
    rules = operator_rules.load(settings.rules)
    sightings = Sightings()
    hits_engine = engine_of_hits(engine, settings)
    recorder = Recorder(hits_engine, metrics, links, rules.version)
    intake = Intake(
        recorder,
        links,
        lookup_with(settings.geoip_db),
        metrics,
        NewValues(settings.new_values_per_hour, settings.new_values_per_day),
        rules=rules,
        sightings=sightings,
        respect_dnt=settings.respect_dnt,
    )
    app.extensions.update(metrics=metrics, recorder=recorder, intake=intake)
    app.extensions.update(rules=rules, sightings=sightings, hits_engine=hits_engine)

    api = JsonApi(app)
    for module in (
        pixels_api,
        reports,
        websites,
        mailings,
        webhooks,
        recipients,
        shares,
        accounts,
        teams,
        send,
        service,
    ):
        api.register_blueprint(module.blueprint)
    app.extensions["api_document"] = api
    app.register_blueprint(service.pages)
    for blueprint in (
        sign_in.blueprint,
        opt_out.blueprint,
        pixels_pages.blueprint,
        compare.blueprint,
        report.blueprint,
        report.shared,
        recipients_pages.blueprint,
        person.blueprint,
        merge.blueprint,
        embed.blueprint,
        pixel_settings.blueprint,
        webhooks_pages.blueprint,
        account.blueprint,
        teams_pages.blueprint,
        users.blueprint,
        invitations.blueprint,
        docs.blueprint,
    ):
        app.register_blueprint(blueprint)
    base.register(app)
    errors.register(app)
    security_headers.register(app)
    # Made before the fork, and shared by all processes.
    app.extensions["health"] = SharedAnswer()
    app.extensions["sign_in_limit"] = rate_limit.RequestLimit(rate_limit.SIGN_INS_A_MINUTE_MAX)
    if settings.api_rate_limit:
        rate_limit.limit_requests(app, rate_limit.RequestLimit(settings.api_rate_limit))

    app.wsgi_app = Collector(app.wsgi_app, intake)  # type: ignore[method-assign]
    app.wsgi_app = Forwarded(  # type: ignore[method-assign]
        app.wsgi_app,
        settings.trusted_proxies,
        settings.trusted_headers.split(","),
        urlsplit(settings.public_url).path,
        taken={"p", *(rule.rule.split("/")[1] for rule in app.url_map.iter_rules())},
    )
    return app
