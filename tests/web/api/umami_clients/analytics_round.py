"""Drive PyPI's `umami-analytics`, unchanged, from login to figures.

    SITE=http://127.0.0.1:8000 USERNAME=admin PASSWORD=… PIXEL=… python analytics_round.py

Prints what it found as JSON; an answer that the client's models don't allow raises.
"""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import umami


def main() -> dict[str, Any]:
    """Call everything that the client offers for one's own server."""
    pixel = os.environ["PIXEL"]
    umami.set_url_base(os.environ["SITE"])
    umami.set_website_id(pixel)
    umami.set_hostname("example.org")
    # Its events carry `Bearer None` before the login.
    before_login = umami.new_event("signed-out", url="/mail?utm_source=round")
    login = umami.login(os.environ["USERNAME"], os.environ["PASSWORD"])
    websites = umami.websites()
    return {
        "alive": umami.heartbeat(),
        "role": login.user.role,
        "verified": umami.verify_token(),
        "websites": [website.id for website in websites],
        "visit": before_login.get("visitId"),
        "event": umami.new_event("opened", url="/mail", custom_data={"a": 1}),
        "view": umami.new_page_view("A page", "/page", ip_address="8.8.8.8", distinct_id="ann"),
        "revenue": umami.new_revenue_event(9.5, currency="EUR", event_name="bought"),
        "stats": _stats(),
        "active": umami.active_users(),
        **asyncio.run(_asynchronously()),
    }


def _stats() -> dict[str, Any]:
    end = datetime.now(UTC) + timedelta(minutes=1)
    found = umami.website_stats(end - timedelta(days=1), end)
    filtered = umami.website_stats(end - timedelta(days=1), end, browser="firefox", country="US")
    return {"all": found.model_dump(), "filtered": filtered.model_dump()}


async def _asynchronously() -> dict[str, Any]:
    end = datetime.now(UTC) + timedelta(minutes=1)
    stats = await umami.website_stats_async(end - timedelta(days=1), end)
    return {
        "websites again": [website.id for website in await umami.websites_async()],
        "verified again": await umami.verify_token_async(),
        "active again": await umami.active_users_async(),
        "views again": stats.pageviews,
    }


if __name__ == "__main__":
    print(json.dumps(main()))
