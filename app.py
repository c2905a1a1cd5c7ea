"""`create_app(settings)`: wiring, and nothing else."""

from __future__ import annotations

from datetime import timedelta

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

import api_accounts
import api_pixels
import api_recipients
import api_reports
import api_send
import api_service
import api_shares
import api_teams
import dashboard
import dashboard_people
import dashboard_pixel
import dashboard_report
import errors
import headers
import pages
from api import BODY_BYTES_MAX, JsonApi, limit_requests
from auth import TOKEN_DAYS_MAX
from collect import Collector
from countries import lookup_with
from database import db, engine_options, prepare_engine
from intake import Intake
from metrics import Metrics
from recipients import Links
from recorder import Recorder
from settings import Settings
from throttle import RequestLimit

VERSION = "0.1.0"


def create_app(settings: Settings) -> Flask:
    """Build the application; connects to nothing yet, so it is safe to fork afterwards."""
    app = Flask(__name__)
    secret_keys = settings.secret_keys()
    app.config.update(
        SETTINGS=settings,
        SECRET_KEY=secret_keys[-1],
        SECRET_KEY_FALLBACKS=secret_keys[:-1],
        SECRET_KEYS=secret_keys,
        SESSION_COOKIE_NAME="pixelkeep",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(days=TOKEN_DAYS_MAX),
        MAX_CONTENT_LENGTH=BODY_BYTES_MAX,
        SQLALCHEMY_DATABASE_URI=settings.sqlalchemy_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings),
        API_TITLE="Pixelkeep",
        API_VERSION=VERSION,
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    db.init_app(app)
    with app.app_context():
        engine = db.engine
    prepare_engine(engine, settings)

    links = Links(secret_keys)
    metrics = Metrics()
    recorder = Recorder(engine, metrics)
    intake = Intake(
        recorder,
        links,
        lookup_with(settings.geoip_db),
        metrics,
        respect_dnt=settings.respect_dnt,
    )
    app.extensions.update(links=links, metrics=metrics, recorder=recorder, intake=intake)

    api = JsonApi(app)
    for module in (
        api_pixels,
        api_reports,
        api_recipients,
        api_shares,
        api_accounts,
        api_teams,
        api_send,
        api_service,
    ):
        api.register_blueprint(module.blueprint)
    app.extensions["api_document"] = api.spec
    app.register_blueprint(api_service.pages)
    for blueprint in (
        dashboard.blueprint,
        dashboard_report.blueprint,
        dashboard_report.shared,
        dashboard_pixel.blueprint,
        dashboard_people.blueprint,
    ):
        app.register_blueprint(blueprint)
    pages.register(app)
    errors.register(app)
    headers.register(app)
    if settings.api_rate_limit:
        limit_requests(app, RequestLimit(settings.api_rate_limit))

    app.wsgi_app = Collector(app.wsgi_app, intake)  # type: ignore[method-assign]
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=count, x_proto=count, x_host=count, x_prefix=count
        )
    return app
