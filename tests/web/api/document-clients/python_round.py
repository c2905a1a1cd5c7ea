"""Do the main jobs through what `openapi-python-client` made of our document.

    SITE=http://127.0.0.1:8000 KEY=… TAG=… python python_round.py

The client is the package `made` beside this. Prints what was found as JSON.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from typing import Any

from made import AuthenticatedClient
from made.api.pixels import create_pixel, delete_pixel, get_pixels, update_pixel
from made.api.recipients import create_pixel_recipients
from made.api.reports import get_website_metrics, get_website_stats
from made.api.send import send
from made.api.shares import create_pixel_share, get_share_by_slug
from made.models import (
    ErrorOut,
    GetWebsiteMetricsType,
    GetWebsiteStatsClass,
    PixelChange,
    PixelCreate,
    PixelCreated,
    PixelPayload,
    RecipientsIssue,
    Send,
    SendType,
    ShareCreate,
)

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"


def main() -> dict[str, Any]:
    """Create a pixel, have it opened, ask for figures, share it, delete it."""
    client = AuthenticatedClient(base_url=os.environ["SITE"], token=os.environ["KEY"])
    tag = os.environ["TAG"]
    pixel = create_pixel.sync(client=client, body=PixelCreate(name="Round", slug=tag))
    assert isinstance(pixel, PixelCreated), pixel
    taken = create_pixel.sync(client=client, body=PixelCreate(name="Round", slug=tag))
    assert isinstance(taken, ErrorOut)
    listed = get_pixels.sync(client=client, search=tag, page_size=5)
    changed = update_pixel.sync(pixel.id, client=client, body=PixelChange(name="Renamed"))
    issued = create_pixel_recipients.sync(
        pixel.id, client=client, body=RecipientsIssue(recipients=["anna@example.org"])
    )
    request = urllib.request.Request(issued.data[0].url, headers={"User-Agent": FIREFOX})
    urllib.request.urlopen(request).read()
    payload = PixelPayload(pixel=pixel.id, url="/read", user_agent="curl/8.0")
    send.sync(client=client, body=Send(type_=SendType.EVENT, payload=payload))
    start_at, end_at = 0, int(time.time() * 1000) + 60_000
    stats = get_website_stats.sync(
        pixel.id, client=client, start_at=start_at, end_at=end_at, class_=GetWebsiteStatsClass.ALL
    )
    browsers = get_website_metrics.sync(
        pixel.id,
        client=client,
        start_at=start_at,
        end_at=end_at,
        type_=GetWebsiteMetricsType.BROWSER,
    )
    share = create_pixel_share.sync(pixel.id, client=client, body=ShareCreate(name="Round"))
    opened = get_share_by_slug.sync(share.slug, client=client)
    deleted = delete_pixel.sync(pixel.id, client=client)
    return {
        "slug": pixel.slug,
        "taken": taken.error.code,
        "listed": [listed_pixel.id == pixel.id for listed_pixel in listed.data],
        "changed": changed.name,
        "recipient": issued.data[0].recipient,
        "pageviews": stats.pageviews,
        "browsers": [row.to_dict() for row in browsers],
        "shared": opened.pixel_id == pixel.id,
        "deleted": deleted.ok,
    }


if __name__ == "__main__":
    print(json.dumps(main()))
