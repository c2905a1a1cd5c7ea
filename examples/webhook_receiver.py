"""Receive webhooks and print what they tell: webhook_receiver.py 9000, with SECRET (whsec_…) set.

Checks signatures as Standard Webhooks has it, refuses what is older than five minutes, and drops
what it has seen: a message may come twice. Put a reverse proxy with TLS in front of it.
"""

import base64
import hmac
import json
import os
import sys
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, HTTPServer

SECONDS_MAX = 300
BODY_BYTES_MAX = 65_536
SECRET = base64.b64decode(os.environ["SECRET"].removeprefix("whsec_"))
seen: deque[str] = deque(maxlen=10_000)


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is ours, 401 to anything else."""

    def do_POST(self) -> None:
        """Take one message."""
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(length, BODY_BYTES_MAX))
        is_ours = self.is_signed(body)
        if is_ours and (message_id := self.headers["webhook-id"]) not in seen:
            seen.append(message_id)
            message = json.loads(body)
            data = message["data"]
            print(message["type"], data["slug"], data["recipient"], data["createdAt"], flush=True)
        self.send_response(204 if is_ours else 401)
        self.end_headers()

    def is_signed(self, body: bytes) -> bool:
        """Tell whether whoever knows the secret has signed this, just now."""
        message_id, at = self.headers.get("webhook-id", ""), self.headers.get("webhook-timestamp")
        if not at or not at.isdecimal() or abs(time.time() - int(at)) > SECONDS_MAX:
            return False
        wanted = hmac.digest(SECRET, f"{message_id}.{at}.".encode() + body, "sha256")
        signatures = self.headers.get("webhook-signature", "").split()
        expected = b"v1," + base64.b64encode(wanted)
        return any(hmac.compare_digest(expected, signature.encode()) for signature in signatures)


HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
