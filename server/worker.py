"""gunicorn's threaded worker, with the waiting for clients taken off its threads.

A thread gets a request that has arrived whole, so clients that send slowly, or open a connection
and leave it, hold no thread; and what is left of a finished connection is waited for without
holding up the others. Bodies of more than `RECEIVED_BYTES_MAX` are read by the thread, which gives
up after `READ_SECONDS_MAX`. A reverse proxy in front does the same and more.

Images that `heads` can read are answered by the event loop, all that have been asked for meanwhile
as a group: it calls the application for each, has their hits committed, and then takes the answers,
so that no thread waits for another (docs/benchmarks.md). Where the commit may take longer than a
moment, a thread for images does the rest. Slow requests don't hold up images.
"""

from __future__ import annotations

import io
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http.unreader import SocketUnreader
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.gthread import TConn, ThreadWorker

from server import http_heads
from server.http_heads import Asked

HEAD_BYTES_MAX = 64 * 1024
# A head at its largest, and a body of 64 KiB, the most that most routes take.
RECEIVED_BYTES_MAX = 128 * 1024
RECEIVE_SECONDS_MAX = 10.0
READ_SECONDS_MAX = 30.0
WRITE_SECONDS_MAX = 30
# What is left of a body that nobody wanted is taken if it is here, and not waited for.
DRAIN_SECONDS_MAX = 0.1
LINGER_SECONDS_MAX = 2.0
LINGER_BYTES_MAX = 256 * 1024
GROUP_IMAGES_MAX = 64
GATHERINGS_MAX = 64

# The kernel's own limit costs a connection one call, Python's two for every answer.
_WRITE_TIMEOUT = struct.pack("ll", WRITE_SECONDS_MAX, 0)
_HEAD_END = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_EXPECTS = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:[^\r\n]*chunked", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n")
_KEPT = Future[bool]()
_KEPT.set_result(True)


class Worker(ThreadWorker):
    """Receives requests in the event loop and has its threads answer them.

    `commit_now` commits what the application has begun, or says that it would take too long.
    """

    commit_now: Callable[[], bool] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Each in the order of its deadline, since all wait equally long.
        self._receiving: dict[TConn, bytearray] = {}
        self._lingering: dict[TConn, int] = {}
        self._images: deque[Answer] = deque()
        self._image_thread = ThreadPoolExecutor(max_workers=1)
        self._is_answering = False
        self._environ = {
            **base_environ(self.cfg),
            "wsgi.multithread": True,
            "wsgi.url_scheme": "http",
        }

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Finish what was taken on Ctrl-C too, which gunicorn would drop."""
        self.handle_exit(sig, frame)

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection to a thread, now or as soon as its request is whole."""
        received = bytearray(conn.parser.unreader.take_buffered() if conn.parser else b"")
        if received:  # It comes straight from a thread, where it could block.
            conn.sock.setblocking(False)
        if _is_whole(received):
            self._hand_over(conn, received)
        elif not self._is_settled(conn, received):
            conn.timeout = time.monotonic() + RECEIVE_SECONDS_MAX
            self._receiving[conn] = received
            self.poller.register(conn.sock, EVENT_READ, partial(self._on_more, conn))

    def _on_more(self, conn: TConn, client: socket.socket) -> None:
        self.poller.unregister(client)
        if self._is_settled(conn, self._receiving[conn]):
            self._receiving.pop(conn, None)
        else:
            self.poller.register(client, EVENT_READ, partial(self._on_more, conn))

    def _is_settled(self, conn: TConn, received: bytearray) -> bool:
        """Take what has arrived; tell whether there is nothing more to wait for."""
        had_head = _HEAD_END in received
        try:
            more: bytes | None = conn.sock.recv(65_536)
        except BlockingIOError:
            more = None
        except OSError:
            more = b""
        received += more or b""
        if _is_whole(received):
            self._hand_over(conn, received)
        elif more == b"" or (_HEAD_END not in received and len(received) > HEAD_BYTES_MAX):
            self._see_off(conn)
        else:
            if not had_head and _EXPECTS.search(received):
                _say_continue(conn.sock)
            return False
        return True

    def _hand_over(self, conn: TConn, received: bytearray) -> None:
        if not conn.initialized:
            conn.init()
            conn.sock.setblocking(False)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _WRITE_TIMEOUT)
            conn.parser.unreader = BoundedUnreader(conn.sock)
        asked = http_heads.read(received) if isinstance(conn.client, tuple) else None
        if asked is not None:
            conn.parser.unreader.start(received[asked.length :])
            self._images.append(Answer(conn, asked))
        else:
            conn.parser.unreader.start(received)
            super().enqueue_req(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Handle what happens; once nothing more does, have the images answered."""
        if self._can_answer():
            timeout = 0
        for _ in range(GATHERINGS_MAX):
            has_happened = self._dispatch(timeout)
            if not self._can_answer() or not has_happened or len(self._images) >= GROUP_IMAGES_MAX:
                break
            # New connections come one at a time. Without another look each would be a commit of
            # its own, and a quarter as many hits be stored (docs/benchmarks.md).
            timeout = 0
        if self._can_answer():
            count = min(len(self._images), GROUP_IMAGES_MAX)
            self._answer_group([self._images.popleft() for _ in range(count)])

    def _can_answer(self) -> bool:
        return bool(self._images) and not self._is_answering

    def _dispatch(self, timeout: float) -> bool:
        """Wait for events and handle them; tell whether there were any."""
        events = self.poller.select(timeout)
        for key, _ in events:
            key.data(key.fileobj)
        return bool(events)

    def _answer_group(self, group: list[Answer]) -> None:
        """Answer images, here or in their thread."""
        if self.commit_now is None:
            self._in_image_thread(group, self._begin, self._finish)
            return
        self._begin(group)
        if self.commit_now():
            self._finish(group)
            self._keep_or_see_off(group)
        else:
            self._in_image_thread(group, self._finish)

    def _in_image_thread(self, group: list[Answer], *steps: Callable[[list[Answer]], None]) -> None:
        self._is_answering = True
        future = self._image_thread.submit(lambda: [step(group) for step in steps])
        future.add_done_callback(partial(self.method_queue.defer, self._on_answered, group))

    def _on_answered(self, group: list[Answer], future: Future[Any]) -> None:
        self._is_answering = False
        future.result()
        self._keep_or_see_off(group)

    def _begin(self, group: list[Answer]) -> None:
        """Call the application for each."""
        for answer in group:
            answer.is_last |= not self.alive
            try:
                answer.body = self.wsgi({**self._environ, **answer.environ}, answer.start_response)
            except Exception:
                self._fail(answer)

    def _finish(self, group: list[Answer]) -> None:
        """Take the bodies, with which the heads come, and send both."""
        for answer in group:
            try:
                body = b"".join(answer.body)
                # There is always room for one packet, unless the client takes none.
                answer.conn.sock.sendall(answer.head + body)
            except OSError:  # The client is gone, or reads nothing.
                answer.is_last = True
            except Exception:
                self._fail(answer)

    def _fail(self, answer: Answer) -> None:
        self.log.exception("Error handling request")
        answer.is_last = True

    def _keep_or_see_off(self, group: list[Answer]) -> None:
        for answer in group:
            if answer.is_last:
                self._see_off(answer.conn)
            else:
                self._keep(answer.conn)

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Answer a request, unless the client takes too long to read the answer."""
        try:
            return bool(super().handle_request(req, conn))
        except (BlockingIOError, TimeoutError):
            return False

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        if not keepalive:
            return False
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        conn.parser.unreader.deadline = deadline
        return bool(conn.parser.finish_body(deadline=deadline))

    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        """Keep a connection for its next request, or see it off."""
        if fs.cancelled() or fs.exception() or not fs.result():
            self._see_off(conn)
        else:
            self._keep(conn)

    def _keep(self, conn: TConn) -> None:
        """Wait for a connection's next request, some of which may have come already."""
        super().finish_request(conn, _KEPT)

    def _see_off(self, conn: TConn) -> None:
        """End our side, and drop what still comes until the client has ended theirs.

        Closing with bytes unread would reset the connection, and the answer be lost (RFC 9112,
        section 9.6). gunicorn waits for this in the event loop itself, all others with it.
        """
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            conn.timeout = time.monotonic() + LINGER_SECONDS_MAX
            self._lingering[conn] = 0
        except OSError:
            self._close(conn)
            return
        if not self._on_rest(conn, conn.sock):
            self.poller.register(conn.sock, EVENT_READ, partial(self._on_rest, conn))

    def _on_rest(self, conn: TConn, client: socket.socket) -> bool:
        """Drop what has come of a finished connection; tell whether it is closed."""
        try:
            count = len(client.recv(65_536))
        except BlockingIOError:
            return False
        except OSError:
            count = 0
        self._lingering[conn] += count
        if count and self._lingering[conn] <= LINGER_BYTES_MAX:
            return False
        self._close(conn)
        return True

    def murder_pending(self) -> None:
        """Close the connections that have waited for their client for too long."""
        at = time.monotonic()
        for waiting in (self._receiving, self._lingering):
            while waiting:
                conn = next(iter(waiting))
                if conn.timeout > at:
                    break
                self._close(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self._receiving:
            conn.timeout = min(conn.timeout, deadline)

    def _close(self, conn: TConn) -> None:
        self._receiving.pop(conn, None)
        self._lingering.pop(conn, None)
        with suppress(OSError, KeyError, ValueError):  # It may not be registered.
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()


class Answer:
    """An image on its way: what is asked for, and what the application answers."""

    def __init__(self, conn: TConn, asked: Asked) -> None:
        self.conn = conn
        self.environ = {
            **asked.environ,
            "REMOTE_ADDR": conn.client[0],
            "REMOTE_PORT": str(conn.client[1]),
            "SERVER_NAME": conn.server[0],
            "SERVER_PORT": str(conn.server[1]),
            "wsgi.input": io.BytesIO(),
        }
        self.is_last = asked.is_last
        self.head = b""
        self.body: Iterable[bytes] = ()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: object = None
    ) -> None:
        """Take status and headers, as WSGI has it."""
        protocol, second = self.environ["SERVER_PROTOCOL"], int(time.time())
        self.head = http_heads.made(protocol, status, tuple(headers), self.is_last, second)


class BoundedUnreader(SocketUnreader):
    """Gives a request's bytes to its parser; waits for what lacks, but not forever."""

    deadline = 0.0

    def start(self, received: bytearray) -> None:
        """Begin a request with what has arrived of it."""
        self.buf.write(received)
        self.deadline = time.monotonic() + READ_SECONDS_MAX

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return more of the request from the socket."""
        self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
        try:
            return bytes(super().chunk(size_hint))
        finally:
            self.sock.setblocking(True)


def _say_continue(client: socket.socket) -> None:
    """Ask for the body, as a client may want before sending it."""
    with suppress(OSError):  # A client that is gone is noticed by the next read.
        client.send(_CONTINUE)


def _is_whole(received: bytes | bytearray) -> bool:
    """Tell whether a request has arrived with all of its body, or is too large to wait for."""
    head_length = received.find(_HEAD_END)
    if head_length < 0:
        return False
    body_at = head_length + len(_HEAD_END)
    if received.startswith((b"GET ", b"HEAD ")):
        return True
    if found := _LENGTH.search(received, 0, body_at):
        length = body_at + int(found[1])
        return len(received) >= length or length > RECEIVED_BYTES_MAX
    if _CHUNKED.search(received, 0, body_at):
        return _has_last_chunk(received, body_at)
    return True


def _has_last_chunk(received: bytes | bytearray, at: int) -> bool:
    while found := _CHUNK_SIZE.match(received, at):
        size = int(found[1], 16)
        if size == 0:
            return received.find(b"\r\n", found.end()) >= 0
        at = found.end() + size + len(b"\r\n")
    # What is no chunk is for the parser to refuse.
    return at < len(received) and b"\r\n" in received[at:]
