"""A receiver of webhooks that is a process of its own, so that it can be killed.

`python -m tests.web.api.receiving PORT FILE` writes the id and the body of each message as a line
of JSON, and only then answers it.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def main(port: int, path: str) -> None:
    """Receive until it is killed."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            line = json.dumps([self.headers["webhook-id"], json.loads(body)])
            os.write(file, f"{line}\n".encode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
