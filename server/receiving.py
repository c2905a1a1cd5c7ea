"""A request on its way in: what has arrived of it, and whether that is all.

Whatever its framing, each byte is looked at once, and what one connection makes us hold before
anybody has asked who it is stays under `RECEIVED_BYTES_MAX`. A body in chunks is made one chunk
as it arrives, its extensions dropped: gunicorn's reader copies what it has with every chunk, so
that a body of one-byte chunks took the square of its length.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

from gunicorn.http.body import CHUNK_EXT_RE

from server.http_heads import BYTES_MAX as LINE_BYTES_MAX

# As much as nginx takes of a head.
HEAD_BYTES_MAX = 32 * 1024
# What the routes that ask nobody who they are take: with a byte more there is no more to wait for.
BODY_BYTES_MAX = 64 * 1024
CHUNKS_BYTES_AT_ONCE = 16 * 1024
# A head, a body, and of its chunks what has not been looked at, with a line that is not whole.
RECEIVED_BYTES_MAX = HEAD_BYTES_MAX + BODY_BYTES_MAX + CHUNKS_BYTES_AT_ONCE + 2 * LINE_BYTES_MAX
# Chunks of one byte take about a microsecond each, so this much takes a fraction of a millisecond.
STEP_BYTES = 2 * 1024

_HEAD_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_EXPECTS = re.compile(rb"\r\nexpect[ \t]*:[ \t]*100-continue", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(
    rb"\r\ntransfer-encoding:(?:[^\r\n]*,)?[ \t]*chunked[ \t]*\r\n", re.IGNORECASE
)
# Routes that ask nobody who they are. Of the others the application says who may send how much.
_IS_FOR_ALL = re.compile(rb"(?:\r\n)?POST /+api/(?:send|batch)[ ?]")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_CHUNK_LINE_WITH_EXTENSIONS = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\r\n]*)\r\n")
# gunicorn refuses a body where it stands, at the moment that somebody reads the body.
_NO_CHUNK = b"-\r\n"


class State(Enum):
    """How much of a request has arrived.

    Of a `LARGE` one, the head and more than most routes take: a route that wants the rest reads it.
    An `UNREADABLE` one has an error; a large one is that where no route takes as much.
    """

    PARTIAL = auto()
    WHOLE = auto()
    LARGE = auto()
    UNREADABLE = auto()


class Unreadable(NamedTuple):
    """Why nobody can read a request, as an answer says it."""

    status: int
    message: str


class Arrival:
    """One request, from its first byte on.

    `expects_continue` says that its client waits to be told before it sends the body.
    """

    state = State.PARTIAL
    error = Unreadable(400, "The request can't be read.")
    expects_continue = False
    chunks: Chunks | None = None
    _looked_at = 0
    _length: int | None = None

    def __init__(self, received: bytes = b"") -> None:
        self._received = bytearray()
        if received:
            self.take(received)

    @property
    def held(self) -> int:
        """How many bytes this holds."""
        return len(self._received) + (self.chunks.held if self.chunks else 0)

    @property
    def room(self) -> int:
        """How many bytes may be received next."""
        if self._length is not None:
            return self._length - len(self._received)
        return CHUNKS_BYTES_AT_ONCE if self.chunks else HEAD_BYTES_MAX + 1 - len(self._received)

    @property
    def has_work(self) -> bool:
        """Tell whether there are chunks to be looked at."""
        return self.state is State.PARTIAL and self.chunks is not None and self.chunks.has_work

    def take(self, received: bytes) -> None:
        """Add what has arrived. Chunks are looked at by `work`, since that takes its time."""
        if self.chunks:
            self.chunks.take(received)
            return
        self._received += received
        if self._length is None:
            self._look_for_head()
        elif len(self._received) >= self._length:
            self.state = State.WHOLE

    def work(self) -> None:
        """Look at the next `STEP_BYTES` of a body in chunks."""
        if self.chunks is None:
            return
        self.chunks.step()
        if self.chunks.error:
            self.state, self.error = State.UNREADABLE, self.chunks.error
        elif self.chunks.is_over:
            self.state = State.WHOLE
        elif len(self.chunks.data) > BODY_BYTES_MAX:
            self._leave_rest()

    def taken(self) -> bytes | bytearray:
        """Return what a parser is to read of it first, once; `chunks` has the rest."""
        if self.chunks is None:
            return self._received
        return bytes(self._received) + self.chunks.taken()

    def first_line(self) -> bytes:
        """Return the line that says what is asked for, as far as it has come."""
        first = bytes(self._received[: LINE_BYTES_MAX + 2])
        return first.lstrip(b"\r\n").partition(b"\r\n")[0]

    def _look_for_head(self) -> None:
        found = self._received.find(_HEAD_END, max(self._looked_at - 3, 0))
        head_length = found + len(_HEAD_END)
        if found < 0:
            if _BARE_LF.search(self._received, max(self._looked_at - 1, 0)):
                self.state = State.UNREADABLE
            head_length = self._looked_at = len(self._received)
        if head_length > HEAD_BYTES_MAX:
            self._refuse_head()
        elif found >= 0:
            self._look_for_body(head_length)

    def _refuse_head(self) -> None:
        self.state = State.UNREADABLE
        if self._received.find(b"\r\n", 2, LINE_BYTES_MAX + 4) < 0:
            self.error = Unreadable(414, f"The first line is over {LINE_BYTES_MAX} bytes.")
        else:
            self.error = Unreadable(431, f"The headers are over {HEAD_BYTES_MAX} bytes.")

    def _look_for_body(self, at: int) -> None:
        received = self._received
        if received.startswith((b"GET ", b"HEAD ", b"\r\nGET ", b"\r\nHEAD ")):
            # Nobody reads a body of theirs.
            self.state = State.WHOLE
        elif _CHUNKED.search(received, 0, at):
            self.chunks = Chunks()
            self.chunks.take(bytes(received[at:]))
            del received[at:]
        elif found := _LENGTH.search(received, 0, at):
            self._length = at + int(found[1])
            if len(received) >= self._length:
                self.state = State.WHOLE
            elif int(found[1]) > BODY_BYTES_MAX:
                self._leave_rest()
        else:
            self.state = State.WHOLE
        if self.state is State.PARTIAL:
            self.expects_continue = _EXPECTS.search(received, 0, at) is not None

    def _leave_rest(self) -> None:
        """Leave the rest to the application, which decides who may send that much."""
        self.state = State.LARGE
        if _IS_FOR_ALL.match(self._received):
            self.state = State.UNREADABLE
            kib = BODY_BYTES_MAX // 1024
            self.error = Unreadable(413, f"The request body is larger than {kib} KiB.")


class Chunks:
    """A body in chunks, of which one is made; `data` is what they hold, as far as looked at."""

    is_over = False
    error: Unreadable | None = None
    _left = 0
    _is_within = False
    _lacks_more = False
    _end = b""

    def __init__(self) -> None:
        self.data = bytearray()
        self._raw = bytearray()

    @property
    def held(self) -> int:
        """How many bytes this holds."""
        return len(self.data) + len(self._raw) + len(self._end)

    @property
    def has_work(self) -> bool:
        """Tell whether there is more to be looked at."""
        return bool(self._raw) and not self._lacks_more and not self.is_over

    def take(self, received: bytes) -> None:
        """Add what has arrived."""
        self._raw += received
        self._lacks_more = False

    def step(self) -> None:
        """Look at the next `STEP_BYTES`."""
        at = 0
        while self.has_work and at < min(STEP_BYTES, len(self._raw)):
            at = self._read_data(at) if self._is_within else self._read_whole_chunks(at)
        del self._raw[:at]

    def taken(self) -> bytes:
        """Return, and forget, what has been looked at: one chunk, and the end if it is there."""
        chunk = b"%x\r\n%b\r\n" % (len(self.data), bytes(self.data)) if self.data else b""
        self.data.clear()
        end, self._end = self._end, b""
        return chunk + end

    def _read_whole_chunks(self, at: int) -> int:
        """Read as many chunks as are whole, which most are, and what follows them."""
        while at < STEP_BYTES and (found := _CHUNK_LINE.match(self._raw, at)):
            begin = found.end()
            end = begin + int(found[1], 16)
            if begin == end or self._raw[end : end + 2] != b"\r\n":
                break
            self.data += self._raw[begin:end]
            at = end + 2
        return self._read_line(at) if at < STEP_BYTES else at

    def _read_line(self, at: int) -> int:
        """Read what says a chunk's size; return where its data begin."""
        found = _CHUNK_LINE.match(self._raw, at) or self._line_with_extensions(at)
        if found is None:
            return self._wait_or_give_up(at)
        self._left = int(found[1], 16)
        if self._left == 0:
            return self._read_trailers(at, found.end())
        self._is_within = True
        return self._read_data(found.end())

    def _line_with_extensions(self, at: int) -> re.Match[bytes] | None:
        found = _CHUNK_LINE_WITH_EXTENSIONS.match(self._raw, at, at + LINE_BYTES_MAX)
        return found if found and CHUNK_EXT_RE.fullmatch(found[2]) else None

    def _wait_or_give_up(self, at: int) -> int:
        """Wait for the rest of a line; one that is whole, or too long, is none of a chunk's."""
        if self._raw.find(b"\n", at) >= 0 or len(self._raw) - at > LINE_BYTES_MAX:
            return self._finish(_NO_CHUNK)
        self._lacks_more = True
        return at

    def _read_data(self, at: int) -> int:
        """Read on in a chunk; return where the next begins, once its end is here."""
        data = self._raw[at : at + self._left]
        self.data += data
        self._left -= len(data)
        at += len(data)
        end = self._raw[at : at + 2]
        if self._left or len(end) < 2:
            self._lacks_more = True
            return at
        if end != b"\r\n":
            return self._finish(_NO_CHUNK)
        self._is_within = False
        return at + 2

    def _read_trailers(self, line_at: int, at: int) -> int:
        """Read to the end of a body, which is kept with what follows it."""
        is_here = self._raw.find(_HEAD_END, at, at + LINE_BYTES_MAX) >= 0
        if is_here or self._raw.startswith(b"\r\n", at):
            return self._finish(b"0\r\n" + self._raw[at:])
        if len(self._raw) - at >= LINE_BYTES_MAX:
            self.error = Unreadable(431, f"The trailers are over {LINE_BYTES_MAX} bytes.")
        self._lacks_more = True
        return line_at

    def _finish(self, end: bytes) -> int:
        self.is_over = True
        self._end = bytes(end)
        self._raw.clear()
        return 0
