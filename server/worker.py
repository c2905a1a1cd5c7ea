"""gunicorn's threaded worker, with the waiting for clients taken off its threads.

A thread gets a request that has arrived whole, so clients that send slowly, or open a connection
and leave it, hold no thread; and what is left of a finished connection is waited for without
holding up the others. What a body has beyond `receiving.BODY_BYTES_MAX` is read by the thread,
once the application knows who is asking; it gives up after `READ_SECONDS_MAX`. Requests that are
not answered yet hold `HELD_BYTES_MAX` in all. A reverse proxy in front does the same and more.

Images that `http_heads` can read are answered by the event loop, all that have been asked for
meanwhile as a group: it calls the application for each, has their hits committed, and then takes
the answers, so that no thread waits for another (docs/benchmarks.md). Where the commit may take
longer than a moment, a thread for images does the rest. Neither slow requests nor bodies hold up
images: they are answered before more is received of what has come in part.
"""

from __future__ import annotations

import errno
import io
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

from gunicorn.http.errors import LimitRequestHeaders, NoMoreData
from gunicorn.http.unreader import SocketUnreader
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from server import http_heads
from server.http_heads import Asked
from server.lenient_request import LenientRequest
from server.receiving import Arrival, Chunks, State
from server.refusals import reason_for, refusal

# What requests that are not answered yet may hold in a process, all together.
HELD_BYTES_MAX = 16 * 1024 * 1024
# To which the largest half-received ones make room.
HELD_BYTES_AFTER_OVERFLOW = HELD_BYTES_MAX * 3 // 4
RECEIVE_SECONDS_MAX = 10.0
READ_SECONDS_MAX = 30.0
WRITE_SECONDS_MAX = 30
# What is left of a body that nobody wanted is taken if it is here, and not waited for.
DRAIN_SECONDS_MAX = 0.1
NO_ROOM = (503, "Too many requests are arriving at once; send this one again, all of it at once.")
LINGER_SECONDS_MAX = 2.0
LINGER_BYTES_MAX = 256 * 1024
GROUP_IMAGES_MAX = 64
# Images wait for others for so long.
GATHER_SECONDS_MAX = 0.005
# Between two groups of images, what has come of requests in part is received for so long.
RECEIVE_SECONDS_A_TURN = 0.0005

# The kernel's own limit costs a connection one call, Python's two for every answer.
_WRITE_TIMEOUT = struct.pack("ll", WRITE_SECONDS_MAX, 0)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Worker(ThreadWorker):
    """Receives requests in the event loop and has its threads answer them.

    `commit_now` commits what the application has begun, or says that it would take too long.
    """

    commit_now: Callable[[], bool] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Each in the order of its deadline, since all wait equally long.
        self._receiving: dict[TConn, Arrival] = {}
        self._lingering: dict[TConn, int] = {}
        # Of which there is more, in the order of its arrival.
        self._readable: deque[TConn] = deque()
        self._held: dict[TConn, int] = {}
        self._held_bytes = 0
        self._images: deque[Answer] = deque()
        # Registered for their next request while an image of theirs is being answered.
        self._registered: set[TConn] = set()
        self._image_thread = ThreadPoolExecutor(max_workers=1)
        self._is_answering = False
        self._has_ended_some = False
        self._environ = {
            **base_environ(self.cfg),
            "wsgi.multithread": True,
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
        }

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Finish what was taken on Ctrl-C too, which gunicorn would drop."""
        self.handle_exit(sig, frame)

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, if need be in place of the one that has been idle for longest."""
        if self.nr_conns >= self.worker_connections and not self._end_oldest_idle():
            return
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._end_oldest_idle()

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection to a thread, now or as soon as its request is whole."""
        arrival = Arrival(conn.parser.unreader.take_buffered() if conn.parser else b"")
        if arrival.held:  # It comes straight from a thread, where it could block.
            conn.sock.setblocking(False)
        if arrival.state is not State.PARTIAL or not self._receive(conn, arrival):
            self._settle(conn, arrival)
        else:
            conn.timeout = time.monotonic() + RECEIVE_SECONDS_MAX
            self._receiving[conn] = arrival
            self._await_more(conn, arrival)

    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """Take a kept connection's next request; while that is an image it stays registered.

        To register it for each anew would take a tenth of an image's time.
        """
        if conn in self._registered:  # It goes on before it has its answer.
            self._unregister(conn)
            return
        self.keepalived_conns.remove(conn)
        self._registered.add(conn)
        self.enqueue_req(conn)

    def _unregister(self, conn: TConn) -> None:
        if conn in self._registered:
            self._registered.remove(conn)
            self.poller.unregister(conn.sock)

    def _receive(self, conn: TConn, arrival: Arrival) -> bool:
        """Take what has arrived; tell whether there is more to wait for."""
        if arrival.has_work:
            arrival.work()
            return arrival.state is State.PARTIAL
        try:
            received = conn.sock.recv(arrival.room)
        except BlockingIOError:
            return True
        except OSError:
            received = b""
        if not received:
            return False
        arrival.take(received)
        return arrival.state is State.PARTIAL

    def _settle(self, conn: TConn, arrival: Arrival) -> None:
        """Have a request answered, of which no more is to be waited for."""
        self._receiving.pop(conn, None)
        if arrival.state in (State.WHOLE, State.LARGE):
            self._hand_over(conn, arrival)
        elif arrival.held:
            self._refuse(conn, arrival, *arrival.error)
        else:
            self._linger(conn)

    def _await_more(self, conn: TConn, arrival: Arrival) -> None:
        self._hold(conn, arrival.held)
        if conn not in self._receiving:  # It had to make room.
            return
        if arrival.expects_continue:
            arrival.expects_continue = False
            _say_continue(conn.sock)
        self._unregister(conn)
        if arrival.has_work:
            self._readable.append(conn)
        else:
            self.poller.register(conn.sock, EVENT_READ, partial(self._on_more, conn))

    def _on_more(self, conn: TConn, client: socket.socket) -> None:
        """Note that there is more of a request, which comes after the images.

        Unless it is the first of it: an image comes in one piece, a moment after its connection.
        """
        self.poller.unregister(client)
        arrival = self._receiving[conn]
        if arrival.held:
            self._readable.append(conn)
        else:
            self._receive_next(conn, arrival)

    def _receive_more(self) -> None:
        """Take what has come of half-received requests, each a little at a time."""
        give_up_at = time.monotonic() + RECEIVE_SECONDS_A_TURN
        while self._readable:
            conn = self._readable.popleft()
            arrival = self._receiving.get(conn)
            if arrival is None:  # It was closed meanwhile.
                continue
            self._receive_next(conn, arrival)
            if time.monotonic() > give_up_at:
                break

    def _receive_next(self, conn: TConn, arrival: Arrival) -> None:
        if self._receive(conn, arrival):
            self._await_more(conn, arrival)
        else:
            self._settle(conn, arrival)

    def _hold(self, conn: TConn, count: int) -> bool:
        """Count what a request holds, and have the largest half-received ones make room for it.

        Tell whether there is room.
        """
        self._held_bytes += count - self._held.get(conn, 0)
        self._held[conn] = count
        if self._held_bytes > HELD_BYTES_MAX:
            self._make_room()
        return self._held_bytes <= HELD_BYTES_MAX

    def _make_room(self) -> None:
        for largest in sorted(self._receiving, key=self._held.__getitem__, reverse=True):
            if self._held_bytes <= HELD_BYTES_AFTER_OVERFLOW:
                break
            self._refuse(largest, self._receiving.pop(largest), *NO_ROOM)

    def _release(self, conn: TConn) -> None:
        self._held_bytes -= self._held.pop(conn, 0)

    def _refuse(self, conn: TConn, arrival: Arrival, status: int, message: str) -> None:
        """Answer a request that no application is called for."""
        self._forget(conn)
        with suppress(OSError):
            conn.sock.setblocking(False)
            conn.sock.send(refusal(arrival.first_line(), status, message))
        self._linger(conn)

    def _hand_over(self, conn: TConn, arrival: Arrival) -> None:
        if not conn.initialized:
            conn.init()
            conn.sock.setblocking(False)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _WRITE_TIMEOUT)
            conn.parser.mesg_class = LenientRequest
            conn.parser.unreader = BoundedUnreader(conn.sock)
        received = arrival.taken()
        asked = http_heads.read(received)
        if asked is None and (quoted := http_heads.quoted(received)) is not received:
            received, asked = quoted, http_heads.read(quoted)
        if asked is not None:
            conn.parser.unreader.buf.write(received[asked.length :])
            self._images.append(Answer(conn, asked, self._environ))
        elif not self._hold(conn, len(received)):
            self._refuse(conn, arrival, *NO_ROOM)
        else:
            self._unregister(conn)
            conn.parser.unreader.start(arrival, received)
            super().enqueue_req(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Handle what happens; once nothing more does, have the images answered.

        Then there is a moment for what is received in part.
        """
        if self._can_answer() or self._readable:
            timeout = 0
        has_happened = self._dispatch(timeout)
        give_up_at = time.monotonic() + GATHER_SECONDS_MAX
        while has_happened and len(self._images) < GROUP_IMAGES_MAX:
            # New connections come one at a time. Without another look each would be a commit of
            # its own, and a quarter as many hits be stored (docs/benchmarks.md); and an image
            # would wait for its turn behind what a flood of others is half-received of. Under
            # that flood there is always more.
            if time.monotonic() >= give_up_at:
                break
            has_happened = self._dispatch(0)
        if self._can_answer():
            count = min(len(self._images), GROUP_IMAGES_MAX)
            self._answer_group([self._images.popleft() for _ in range(count)])
        self._receive_more()

    def _can_answer(self) -> bool:
        return bool(self._images) and not self._is_answering

    def _dispatch(self, timeout: float) -> bool:
        """Wait for events and handle them; tell whether there were any."""
        events = self.poller.select(timeout)
        self._has_ended_some = False
        for key, _ in events:
            # One may have been ended meanwhile to make room for another.
            if not self._has_ended_some or self.poller.get_map().get(key.fd) is key:
                key.data(key.fileobj)
        return bool(events)

    def _answer_group(self, group: list[Answer]) -> None:
        """Answer images, here or in their thread."""
        if self.commit_now is None:
            self._in_image_thread(group, self._call_application, self._send)
            return
        self._call_application(group)
        if self.commit_now():
            self._send(group)
            self._keep_or_linger(group)
        else:
            self._in_image_thread(group, self._send)

    def _in_image_thread(self, group: list[Answer], *steps: Callable[[list[Answer]], None]) -> None:
        self._is_answering = True
        future = self._image_thread.submit(lambda: [step(group) for step in steps])
        future.add_done_callback(partial(self.method_queue.defer, self._on_answered, group))

    def _on_answered(self, group: list[Answer], future: Future[Any]) -> None:
        self._is_answering = False
        future.result()
        self._keep_or_linger(group)

    def _call_application(self, group: list[Answer]) -> None:
        """Call the application for each."""
        for answer in group:
            answer.is_last |= not self.alive
            try:
                answer.body = self.wsgi(answer.environ, answer.start_response)
            except Exception:
                self._fail(answer)

    def _send(self, group: list[Answer]) -> None:
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

    def _keep_or_linger(self, group: list[Answer]) -> None:
        for answer in group:
            if answer.is_last:
                self._linger(answer.conn)
            else:
                self._keep(answer.conn)

    def handle(self, conn: TConn) -> bool:
        """Answer a request, in a thread; tell whether its connection stays."""
        conn.sock.setblocking(True)
        try:
            request = next(conn.parser, None)
            if request is None:
                return False
            _leave_body_to(conn.parser.unreader, request)
            return self._keepalive_after(conn, self.handle_request(request, conn))
        except (OSError, StopIteration):  # The client is gone, or takes too long.
            return False
        except Exception as error:
            self._refuse_parsed(conn, error)
            return False

    def _refuse_parsed(self, conn: TConn, error: Exception) -> None:
        """Answer what gunicorn's parser can't read, or what failed outside of the application."""
        status, message = reason_for(error)
        if status == 500:
            self.log.exception("Error handling request")
        with suppress(OSError):
            conn.sock.sendall(refusal(conn.parser.unreader.first_line, status, message))

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer and log an error, but not the address, which may hold a name or a secret."""
        super().handle_error(None, client, addr, exc)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        if not keepalive:
            return False
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        conn.parser.unreader.deadline = deadline
        return bool(conn.parser.finish_body(deadline=deadline))

    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        """Keep a connection for its next request, or let it linger and close."""
        if fs.cancelled() or fs.exception() or not fs.result():
            self._linger(conn)
        else:
            conn.sock.setblocking(False)
            self._keep(conn)

    def _keep(self, conn: TConn) -> None:
        """Wait for a connection's next request, some of which may have come already."""
        self._release(conn)
        if conn.parser.unreader.buf.getvalue():
            self.enqueue_req(conn)
            return
        idle_seconds = self.cfg.keepalive if self.alive else STOP_KEEPALIVE_LINGER
        conn.timeout = time.monotonic() + idle_seconds
        self.keepalived_conns.append(conn)
        if conn in self._registered:
            self._registered.remove(conn)
        else:
            read = partial(self.on_client_socket_readable, conn)
            self.poller.register(conn.sock, EVENT_READ, read)

    def _linger(self, conn: TConn) -> None:
        """End our side, and drop what still comes until the client has ended theirs.

        Closing with bytes unread would reset the connection, and the answer be lost (RFC 9112,
        section 9.6). gunicorn waits for this in the event loop itself, all others with it.
        """
        self._release(conn)
        self._unregister(conn)
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

    def murder_keepalived(self, force: bool = False) -> None:
        """Close what has been idle for too long, and one more where the next has no place."""
        super().murder_keepalived(force)
        if self.nr_conns >= self.worker_connections:
            self._end_oldest_idle()

    def _end_oldest_idle(self) -> bool:
        """Close the connection whose client we have waited for longest; tell if there was one."""
        kept = self.keepalived_conns[0] if self.keepalived_conns else None
        begun = next(iter(self._receiving), None)
        if kept and begun:
            kept_since = kept.timeout - self.cfg.keepalive
            oldest = kept if kept_since < begun.timeout - RECEIVE_SECONDS_MAX else begun
        else:
            oldest = kept or begun or next(iter(self._lingering), None)
        if oldest is None:
            return False
        if oldest is kept:
            self.keepalived_conns.popleft()
        self._close(oldest)
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
        self._release(conn)
        self._forget(conn)
        self.nr_conns -= 1
        conn.close()

    def _forget(self, conn: TConn) -> None:
        self._has_ended_some = True
        self._registered.discard(conn)
        with suppress(OSError, KeyError, ValueError):  # It may not be registered.
            self.poller.unregister(conn.sock)


class Answer:
    """An image on its way: what is asked for, and what the application answers."""

    def __init__(self, conn: TConn, asked: Asked, environ: dict[str, Any]) -> None:
        self.conn = conn
        self.environ = {
            **environ,
            **asked.environ,
            "REMOTE_ADDR": conn.client[0],
            "REMOTE_PORT": str(conn.client[1]),
            "SERVER_NAME": conn.server[0],
            "SERVER_PORT": str(conn.server[1]),
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
    first_line = b""
    is_asked_to_continue = False
    # What has not arrived of it is read by whoever wants it, and the connection ends with it.
    is_large = False
    chunks: Chunks | None = None

    def start(self, arrival: Arrival, received: bytes | bytearray) -> None:
        """Begin a request with what has arrived of it."""
        self.buf.write(received)
        self.first_line = arrival.first_line()
        self.is_large = arrival.state is State.LARGE
        self.chunks = arrival.chunks if self.is_large else None
        self.deadline = time.monotonic() + READ_SECONDS_MAX

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return more of the request from the socket; of a body in chunks, one made of several."""
        if self.chunks is None:
            return self._receive(size_hint)
        while True:
            while self.chunks.has_work:
                self.chunks.step()
            if self.chunks.error:
                raise LimitRequestHeaders(self.chunks.error.message)
            if piece := self.chunks.taken():
                self.chunks = None if self.chunks.is_over else self.chunks
                return piece
            received = self._receive(None)
            if not received:
                return b""
            self.chunks.take(received)

    def _receive(self, size_hint: int | None) -> bytes:
        if self.is_asked_to_continue:
            self.is_asked_to_continue = False
            _say_continue(self.sock)
        self.sock.settimeout(max(self.deadline - time.monotonic(), 0.001))
        try:
            return bytes(super().chunk(size_hint))
        except TimeoutError:
            raise NoMoreData from None
        finally:
            self.sock.setblocking(True)


def _say_continue(client: socket.socket) -> None:
    """Ask for the body, as a client may want before sending it."""
    with suppress(OSError):  # A client that is gone is noticed by the next read.
        client.send(_CONTINUE)


def _leave_body_to(unreader: BoundedUnreader, request: Any) -> None:
    """Ask for a body once somebody reads it, and for none that nobody reads.

    gunicorn asks before the application is called, even if all of the body is here.
    """
    # A body in chunks was asked for as it began to arrive.
    unreader.is_asked_to_continue = request._expected_100_continue and not unreader.chunks
    request._expected_100_continue = False
    has_body = getattr(request.body.reader, "length", None) != 0
    if unreader.is_large or (has_body and request.method in ("GET", "HEAD")):
        request.force_close()
