"""What gunicorn loads: `wsgi:app`, built from the environment's settings."""

from __future__ import annotations

import os

from app import create_app
from core import settings

app = create_app(settings.load(os.environ))
