"""`docs/umami.md`: what becomes of every route of Umami's document here, and why.

    python -m tests.web.api.umami_document > docs/umami.md

The routes are those of npm's `@umami/api-client`, which carries the document; the tests hold each
line of the table to a running server.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.conftest import PROJECT_DIR

CLIENT_VERSION = "0.81.0"
OPERATIONS = PROJECT_DIR / "tests" / "data" / f"umami-operations-{CLIENT_VERSION}.json"
DOCUMENT = PROJECT_DIR / "docs" / "umami.md"

# What is answered in Umami's shape, but for this.
OTHERWISE = {
    "createPixel": "The six keys that Umami's page on pixels shows; `getPixel` has all.",
    "createTeam": "`accessCode` is one that can't be guessed; an admin may name another owner.",
    "exportWebsite": "The hits as CSV, or with `format=jsonl` as lines of JSON, streamed; Umami"
    " answers JSON that holds a ZIP.",
    "getPixelsCharts": "Visitors by half days, of ranges over 400 days by days, months or years.",
    "getRealtime": "`urls` has the pixel's image, since a hit has no page.",
    "getShareBySlug": "`pixelId` beside `websiteId`.",
    "getUser": "Without the row's other columns, the password's hash among them.",
    "getWebsite": "The pixel: its slug is the domain.",
    "getWebsiteEventSeries": "By class (`open`, `prefetch`, `bot`) where Umami has names.",
    "getWebsiteEventStats": "`uniqueEvents` counts classes.",
    "getWebsiteEvents": "`class`, `reason` and `recipient` beside Umami's keys.",
    "getWebsiteSessionStats": "`events` is 0: hits have no name.",
    "getWebsiteSessions": "A visitor is another one the next day, unless a link names them.",
    "getWebsitesCharts": "As `getPixelsCharts`.",
    "listWebsites": "Pixels, as `getWebsite` has them.",
    "logout": "Revokes the token.",
    "send": "Bots are stored as bots; `identify` and `performance` are answered and store nothing.",
    "batch": "As `send`.",
    "updatePixel": "Also `privacy`, `sentAt`, `sentCount`, `retentionDays`, and who owns it.",
}
# What is not there, by the beginning of its path, and why.
WEBSITE = "/api/websites/{websiteId}"
ABSENT = {
    "/api/2fa": "There is no second factor.",
    "/api/auth/sso": "There is no single sign-on.",
    "/api/auth/subscription": "There is nothing to subscribe to.",
    "/api/boards": "There are no boards.",
    "/api/links": "There are no short links; a pixel's links are its own.",
    "/api/record": "There are no recordings: an image runs no script.",
    "/api/teams/{teamId}/boards": "There are no boards.",
    "/api/teams/{teamId}/links": "There are no short links.",
    "/api/websites": "A pixel is made, changed and deleted as a pixel.",
    f"{WEBSITE}/annotations": "There are no annotations.",
    f"{WEBSITE}/attribution": "A hit has no goal that it could lead to.",
    f"{WEBSITE}/breakdown": "There is one dimension to a table; filters make it of two.",
    f"{WEBSITE}/event-data": "A hit carries no data of its own.",
    f"{WEBSITE}/funnels": "A hit has no page, and leads to no other.",
    f"{WEBSITE}/goals": "A hit has no page, and leads to no other.",
    f"{WEBSITE}/heatmaps": "Nobody clicks on an image of one dot.",
    f"{WEBSITE}/journeys": "A hit has no page, and leads to no other.",
    f"{WEBSITE}/performance": "An image measures nothing.",
    f"{WEBSITE}/recorder": "There are no recordings: an image runs no script.",
    f"{WEBSITE}/replays": "There are no recordings: an image runs no script.",
    f"{WEBSITE}/reset": "Hits go with their pixel, or by its retention.",
    f"{WEBSITE}/retention": "A visitor is another one the next day, unless a link names them.",
    f"{WEBSITE}/revenue": "A hit earns nothing.",
    f"{WEBSITE}/segments": "There are no saved filters; to ask for one is 400.",
    f"{WEBSITE}/session-data": "A visitor carries no data of their own.",
    f"{WEBSITE}/sessions/{{sessionId}}": "A visitor without a name can't be found again;"
    " `GET /api/recipient` tells all of somebody with one.",
    f"{WEBSITE}/shares": "A pixel is shared under `/api/pixels/{pixelId}/shares`.",
    f"{WEBSITE}/transfer": "A pixel moves by `updatePixel`.",
}

HEAD = f"""# For Umami's clients

A program that was written for Umami finds here what it knows: the same routes, parameters and
shapes, wherever hits of an image have an answer. Where Umami has websites, a pixel is one. These
are all routes of Umami's document, as `@umami/api-client` {CLIENT_VERSION} carries it.
`tests/web/api/umami_document.py` makes this page, and tests hold it to a running server: the client
itself calls all that is there, and finds in the answers what its types promise.

Beyond the shapes:

- Statistics count opens, which is people; `class=all` counts every hit.
- What one may not know of is 404, and what one may not do to what one sees is 403, where Umami
  answers 401 to both.
- A slug, id or name that is taken is 409, where Umami fails.
- `timestamp` and `ip` in a payload are read of callers who may change the pixel, and of no others.
- `segment` and `cohort` are refused, since figures of all hits would be taken for those of some.
- `compare=prev` is the span just before, to the millisecond.
- What Umami has and an image can't tell (`city`, `screen`, `pageTitle`, …) is null, or an empty
  list.

"""


class Route(NamedTuple):
    """A route of Umami's document, and what becomes of it here."""

    operation: str
    method: str
    path: str
    state: str
    why: str


def routes(operations: Path = OPERATIONS) -> list[Route]:
    """Return every route, in the order of the paths."""
    return [_route(*operation) for operation in json.loads(operations.read_text())]


def document() -> str:
    """Return what docs/umami.md says."""
    found = routes()
    counts = Counter(route.state for route in found)
    summary = (
        f"Of {len(found)} routes {counts['as in Umami']} answer as in Umami,"
        f" {counts['otherwise']} with a difference,\nand {counts['not there']} are not there:"
        " they answer 404, or 405 where the path has other methods.\n\n"
    )
    lines = [
        f"| `{route.method} {route.path}` | {route.operation} | {route.state} | {route.why} |"
        for route in found
    ]
    heads = ["| route | operation | here | |", "|---|---|---|---|"]
    return HEAD + summary + "\n".join([*heads, *lines]) + "\n"


def filled(path: str) -> str:
    """Return a path with ids that nothing has."""
    with_ids = re.sub(r"\{\w+Id\}", "7c9e6679-7425-40de-944b-e07fc1f90ae7", path)
    return re.sub(r"\{\w+\}", "nothing", with_ids)


def _route(operation: str, method: str, path: str) -> Route:
    if operation in OTHERWISE:
        return Route(operation, method, path, "otherwise", OTHERWISE[operation])
    longest = max((prefix for prefix in ABSENT if _is_of(path, prefix)), key=len, default="")
    # Of `/api/websites` itself and one of them only the reading is there.
    if longest == "/api/websites" and (method == "GET" or path.count("/") > 3):
        longest = ""
    state = "not there" if longest else "as in Umami"
    return Route(operation, method, path, state, ABSENT.get(longest, ""))


def _is_of(path: str, beginning: str) -> bool:
    return path == beginning or path.startswith((f"{beginning}/", f"{beginning}-"))


if __name__ == "__main__":
    print(document(), end="")
