"""Drive PyPI's `umami-mcp-server`, unchanged, as a program that speaks MCP would.

    SITE=http://127.0.0.1:8000 USERNAME=admin PASSWORD=… PIXEL=… python mcp_round.py

Starts it as its documents say and calls each of its tools. Prints what they answered as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters

# What each tool is asked with, beside the website.
METRICS = (
    *("path", "fullPath", "entry", "exit", "referrer", "domain", "title", "query", "event", "tag"),
    *("hostname", "utmSource", "utmMedium", "utmCampaign", "utmContent", "utmTerm", "browser"),
    *("os", "device", "screen", "language", "country", "city", "region", "distinctId", "channel"),
)


async def main() -> dict[str, Any]:
    """Call every tool, each with all that it may be asked."""
    pixel = os.environ["PIXEL"]
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "umami_mcp_server"],
        env={
            "PATH": os.environ["PATH"],
            "UMAMI_API_BASE": f"{os.environ['SITE']}/api",
            "UMAMI_USERNAME": os.environ["USERNAME"],
            "UMAMI_PASSWORD": os.environ["PASSWORD"],
        },
    )
    async with Client(server) as client:
        found: dict[str, Any] = {
            "tools": sorted(tool.name for tool in (await client.list_tools()).tools)
        }

        async def call(tool: str, **asked: Any) -> Any:
            result = await client.call_tool(tool, asked)
            assert not result.is_error, (tool, asked, result.content)
            return result.structured_content

        found["websites"] = await call("get_websites", page_size=100)
        found["with teams"] = await call("get_websites", include_teams=True, page_size=100)
        found["searched"] = await call("get_websites", search="no pixel is called this")
        found["stats"] = await call("get_stats", website_id=pixel)
        filters = {"browser": "eq.chrome", "utm_source": "neq.nowhere", "path": "c./p"}
        found["filtered"] = await call("get_stats", website_id=pixel, filters=filters)
        found["pageviews"] = await call(
            "get_pageviews",
            website_id=pixel,
            unit="hour",
            timezone="Europe/Paris",
            compare="prev",
        )
        found["metrics"] = {
            name: await call("get_metrics", website_id=pixel, type=name) for name in METRICS
        }
        found["expanded"] = await call(
            "get_metrics", website_id=pixel, type="browser", expanded=True
        )
        found["active"] = await call("get_active", website_id=pixel)
        return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main()), default=str))
