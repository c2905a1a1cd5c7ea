"""Bodies in odd framings thrown at a server, on which images are timed.

Those who throw are processes of their own with the lowest priority, so that an image waits for the
server and not for them.
"""

from __future__ import annotations

import http.client
import multiprocessing
import os
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier

import psutil

from tests.conftest import Server

THROWERS = 2
CONNECTIONS_AT_ONCE = 24
ANSWER_SECONDS_MAX = 10
IMAGE_INTERVAL_SECONDS = 0.01
REST_SECONDS = 3.0
SLOWEST_SHOWN = 5
PAGE_BYTES = 4096
MIB = 2**20

Pieces = Iterator[bytes]
ROUTES = [b"POST /api/send", b"POST /api/auth/login", b"POST /api/pixels", b"POST /sign-in"]
ROUTES += [b"PUT /p/x", b"POST /nowhere", b"GET /p/x", b"GET /api/me", b"DELETE /api/pixels/x"]
LINES = b"\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def framing(dice: random.Random) -> Pieces:
    """Return the pieces that one connection sends, of one kind or another."""
    kind: Callable[[random.Random], Pieces] = dice.choice(
        [_small_chunks, _huge_chunk, _extensions, _trailers, _length, _head, _pipelined, _noise]
    )
    head = dice.choice(ROUTES) + b" HTTP/1.1" + LINES
    head += dice.choice([b"", b"", b"", b"Expect: 100-continue\r\n"])
    return _cut(dice, _joined(head, kind(dice)))


def _joined(head: bytes, rest: Pieces) -> Pieces:
    yield head
    yield from rest


def _cut(dice: random.Random, pieces: Pieces) -> Pieces:
    """Cut what is sent anew: byte by byte, or in pieces of some size, or not at all."""
    size = dice.choice([1, 2, 7, 100, 1460, 0, 0, 0])
    count_max = dice.choice([2_000, 20_000])
    for piece in pieces:
        yield from (
            [piece[at : at + size] for at in range(0, min(len(piece), size * count_max), size)]
            if size
            else [piece]
        )


def _small_chunks(dice: random.Random) -> Pieces:
    size = dice.choice([1, 1, 2, 16, 255])
    yield CHUNKED + b"\r\n"
    for _ in range(dice.choice([3, 200])):
        yield b"%x\r\n%b\r\n" % (size, b"x" * size) * 1000
    yield dice.choice([b"0\r\n\r\n", b"0\r\n", b"", b"zz\r\n"])


def _huge_chunk(dice: random.Random) -> Pieces:
    yield CHUNKED + b"\r\n" + dice.choice([b"FFFFFFF", b"7FFFFFFFFFFFFFF", b"20000", b"f" * 40])
    yield b"\r\n"
    for _ in range(dice.choice([2, 100])):
        yield b"x" * 65_536


def _extensions(dice: random.Random) -> Pieces:
    yield CHUNKED + b"\r\n"
    extension = dice.choice([b";a=b", b';a="%b"', b";%b", b" ;\t%b", b"%b"])
    filled = extension.replace(b"%b", b"y" * dice.choice([1, 100, 8000, 60_000]))
    for _ in range(dice.choice([10, 500])):
        yield b"1" + filled + b"\r\nx\r\n"
    yield b"0\r\n\r\n"


def _trailers(dice: random.Random) -> Pieces:
    yield CHUNKED + b"\r\n2\r\n{}\r\n0\r\n"
    for _ in range(dice.choice([1, 10, 5000])):
        yield b"X-Trailer: " + b"y" * dice.choice([1, 100, 4000]) + b"\r\n"
    yield b"\r\n"


def _length(dice: random.Random) -> Pieces:
    length = dice.choice([0, 1, 60_000, 65_536, 65_537, 98_000, 10_000_000, 10**17])
    yield b"Content-Length: %d\r\n\r\n" % length
    for _ in range(dice.choice([0, 1, 30])):
        yield b"x" * min(length, 32_768)


def _head(dice: random.Random) -> Pieces:
    for number in range(dice.choice([1, 59, 61, 3000])):
        yield b"X-%d: %b\r\n" % (number, b"y" * dice.choice([0, 10, 5000]))
    yield dice.choice([b"\r\n", b"", b"\n\n"])


def _pipelined(dice: random.Random) -> Pieces:
    yield b"Content-Length: 2\r\n\r\n{}"
    yield dice.choice([b"GET /p/none HTTP/1.1\r\n\r\n", b"GET /api/me HTTP/1.1\r\n\r\n"]) * 500


def _noise(dice: random.Random) -> Pieces:
    yield dice.choice([CHUNKED, b"Content-Length: 500\r\n", b"Transfer-Encoding: gzip\r\n"])
    yield b"\r\n" + dice.randbytes(dice.choice([10, 1000, 100_000]))


def send_all(port: int, pieces: Pieces) -> None:
    """Send what one connection sends, as far as the server takes it, and leave."""
    client = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX)
    with client, suppress(OSError):  # It may be refused before all is sent.
        for piece in pieces:
            client.sendall(piece)


def throw(port: int, seed: int, seconds: float, count: Synchronized[int], start: Barrier) -> None:
    """Throw framings at a server, on `CONNECTIONS_AT_ONCE`, and count them."""
    os.nice(19)
    start.wait()
    dice = random.Random(seed)
    give_up_at = time.monotonic() + seconds
    thrown: list[tuple[socket.socket, Pieces]] = []
    while time.monotonic() < give_up_at:
        while len(thrown) < CONNECTIONS_AT_ONCE:
            with suppress(OSError):
                client = socket.create_connection(("127.0.0.1", port), timeout=1)
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thrown.append((client, framing(dice)))
                with count.get_lock():
                    count.value += 1
        thrown = [pair for pair in thrown if _goes_on(dice, *pair)]
        time.sleep(dice.choice([0, 0, 0, 0.001]))
    for client, _ in thrown:
        client.close()


def _goes_on(dice: random.Random, client: socket.socket, pieces: Pieces) -> bool:
    """Send the next few pieces; now and then leave in the middle, or in silence."""
    try:
        for _ in range(20):
            piece = next(pieces, None)
            if piece is None or dice.random() < 0.0005:
                client.close()
                return False
            client.send(piece)
    except BlockingIOError:
        return dice.random() > 0.001
    except OSError:
        client.close()
        return False
    return True


@dataclass
class Images:
    """How long images took, in milliseconds, and what a process of the server held meanwhile.

    `stalled_ms` is the longest that a sleep took beyond its time: then the machine, or whoever
    shares it, kept the asker waiting, and not the server. `disk_stalled_ms` is the longest that
    the disk took to keep a page of somebody else's, as it does for every image.
    """

    took_ms: list[float] = field(default_factory=list)
    stalled_ms: float = 0.0
    disk_stalled_ms: float = 0.0
    failed: list[str] = field(default_factory=list)
    memory_mib: float = 0.0
    framings: int = 0

    def __str__(self) -> str:
        took = sorted(self.took_ms)
        return (
            f"{len(took)} images: median {statistics.median(took):.2f} ms,"
            f" 99 % in {took[int(len(took) * 0.99)]:.1f}, slowest"
            f" {', '.join(f'{took_ms:.0f}' for took_ms in took[: -SLOWEST_SHOWN - 1 : -1])};"
            f" the machine stalled for {self.stalled_ms:.0f} ms at most, the disk for"
            f" {self.disk_stalled_ms:.0f};"
            f" {len(self.failed)} failed; {self.memory_mib:.0f} MiB in the largest process"
        )


def time_disk(server: Server, images: Images, is_over: threading.Event) -> None:
    """Have the disk keep a page now and then, beside the server's."""
    with (server.data_dir / "page").open("wb", buffering=0) as file:
        while not is_over.wait(IMAGE_INTERVAL_SECONDS):
            begun = time.perf_counter()
            file.write(bytes(PAGE_BYTES))
            os.fdatasync(file)
            took_ms = (time.perf_counter() - begun) * 1000
            images.disk_stalled_ms = max(images.disk_stalled_ms, took_ms)
            file.seek(0)


def time_images(server: Server, slug: str, seconds: float) -> Images:
    """Ask for an image again and again, in turn on a kept connection and on a new one."""
    images, is_over = Images(), threading.Event()
    disk = threading.Thread(target=time_disk, args=(server, images, is_over))
    disk.start()
    try:
        _ask(server, slug, seconds, images)
    finally:
        is_over.set()
        disk.join()
    return images


def _ask(server: Server, slug: str, seconds: float, images: Images) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS_MAX)
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        new = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS_MAX)
        for connection in (kept, new):
            begun = time.perf_counter()
            try:
                connection.request("GET", f"/p/{slug}")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    images.failed.append(str(answer.status))
            except (OSError, http.client.HTTPException) as error:
                images.failed.append(repr(error))
                connection.close()
            images.took_ms.append((time.perf_counter() - begun) * 1000)
        new.close()
        images.memory_mib = max(images.memory_mib, _largest_mib(server))
        slept_since = time.perf_counter()
        time.sleep(IMAGE_INTERVAL_SECONDS)
        stalled_s = time.perf_counter() - slept_since - IMAGE_INTERVAL_SECONDS
        images.stalled_ms = max(images.stalled_ms, stalled_s * 1000)
    kept.close()


def _largest_mib(server: Server) -> float:
    assert server.process
    sizes = [0.0]
    for process in psutil.Process(server.process.pid).children():
        with suppress(psutil.Error):
            sizes.append(process.memory_info().rss / MIB)
    return max(sizes)


def throw_and_time(server: Server, slug: str, seconds: float, seed: int) -> Images:
    """Time images while framings are thrown."""
    context = multiprocessing.get_context("spawn")
    # A process that begins is no thrower yet, and keeps the server off the processor.
    thrown, start = context.Value("i", 0), context.Barrier(THROWERS + 1)
    throwers = [
        context.Process(target=throw, args=(server.port, seed + number, seconds, thrown, start))
        for number in range(THROWERS)
    ]
    for thrower in throwers:
        thrower.start()
    start.wait(ANSWER_SECONDS_MAX * 3)
    images = time_images(server, slug, seconds)
    for thrower in throwers:
        thrower.join(ANSWER_SECONDS_MAX)
        if thrower.exitcode:
            images.failed.append("a thrower failed")
        thrower.kill()
    images.framings = thrown.value
    return images


def run(server: Server, seconds: float, seed: int) -> list[str]:
    """Throw framings for a while and say how images fared; return what went wrong."""
    slug = server.admin.create_pixel()["slug"]
    time_images(server, slug, 1.0)
    print(f"framings, at rest: {time_images(server, slug, REST_SECONDS)}")
    images = throw_and_time(server, slug, seconds, seed)
    print(f"framings, {images.framings} thrown: {images}")
    found = images.failed[:10]
    if "Traceback" in server.log:
        found.append(server.log[-5000:])
    return found
