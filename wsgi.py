"""What gunicorn loads: `wsgi:app`, built from the environment's settings."""

from __future__ import annotations

import os

import settings
from app import create_app

app = create_app(settings.load(os.environ))
