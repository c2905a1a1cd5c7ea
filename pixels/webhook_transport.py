"""One POST to somebody else's server: bounded in time and size, and never to an address of ours.

A webhook's URL is chosen by a user, so it must not be a way into the operator's network. A name is
looked up once for each connection, every address that it has must be public, and the connection
goes to the address that was looked at: a name that answers otherwise a moment later changes
nothing. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LookUpTimeout
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from core.addresses import is_public

TRY_SECONDS_MAX = 10.0
# Of an answer only the status counts. What is longer ends the connection instead of being read.
ANSWER_BYTES_MAX = 64 * 1024
URL_CHARACTERS_MAX = 2_000
LOOK_UPS_AT_ONCE = 8
# Names that never mean a machine on the internet, whatever a resolver says (RFC 6761, RFC 8375).
PRIVATE_NAMES = ("localhost", "local", "internal", "home.arpa", "lan", "localdomain")


class Unreachable(Exception):
    """Nothing could be sent, or no answer came; the text says why and goes into the log."""


class NotPublic(Unreachable):
    """The URL leads to an address that is not public."""


class DeliveryOutcome(NamedTuple):
    """What came of one attempt: a status, or None and what went wrong."""

    status: int | None
    milliseconds: int
    error: str | None = None


class Endpoint:
    """A URL to post to. Its connection is kept between posts, for as long as the other side will.

    For one thread at a time.
    """

    def __init__(self, url: str, *, private_allowed: bool) -> None:
        self._url = split_url(url)
        self._private_allowed = private_allowed
        self._connection: _Connection | None = None

    def post(self, body: bytes, headers: Mapping[str, str]) -> DeliveryOutcome:
        """Send `body` once, in `TRY_SECONDS_MAX` from the look-up to the end of the answer."""
        started_at = time.monotonic()
        try:
            status, error = self._post(body, headers, started_at + TRY_SECONDS_MAX), None
        except Unreachable as unreachable:
            status, error = None, str(unreachable)
        except (OSError, http.client.HTTPException, ValueError) as failure:
            status, error = None, _words(failure)
        if error:
            self.close()
        return DeliveryOutcome(status, round((time.monotonic() - started_at) * 1000), error)

    def close(self) -> None:
        """End the kept connection."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _post(self, body: bytes, headers: Mapping[str, str], give_up_at: float) -> int:
        if self._connection is not None and self._connection.is_over():
            self.close()
        if self._connection is None:
            self._connection = self._connect(give_up_at)
        self._connection.give_up_at = give_up_at
        path = f"{self._url.path or '/'}{'?' + self._url.query if self._url.query else ''}"
        self._connection.request("POST", path, body, dict(headers))
        answer = self._connection.getresponse()
        self._skip_the_rest(answer)
        return answer.status

    def _skip_the_rest(self, answer: http.client.HTTPResponse) -> None:
        """Read an answer to its end, for the next one to follow; close if that is too far away."""
        if not answer.will_close:
            with suppress(OSError, http.client.HTTPException):
                answer.read(ANSWER_BYTES_MAX)
        if answer.will_close or not answer.isclosed():
            answer.close()
            self.close()

    def _connect(self, give_up_at: float) -> _Connection:
        host, port = host_and_port(self._url)
        addresses = look_up(host, port, private_allowed=self._private_allowed)
        return _Connection(self._url.scheme == "https", host, port, addresses, give_up_at)


def split_url(url: str) -> SplitResult:
    """Return the parts of an absolute HTTP URL.

    Raises: ValueError, with a sentence for the person who wrote the URL.
    """
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(
            f"Must be a URL of {URL_CHARACTERS_MAX} characters at most, in ASCII, without blanks."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("Not a valid URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("Must be an absolute http or https URL.")
    if port == 0:
        raise ValueError("Not a valid URL.")
    if parts.username is not None or parts.password is not None:
        raise ValueError("Must not hold a name or a password.")
    return parts


def host_and_port(url: SplitResult) -> tuple[str, int]:
    """Return where a URL of `split_url` leads."""
    return (url.hostname or "").rstrip("."), url.port or (443 if url.scheme == "https" else 80)


def look_up(host: str, port: int, *, private_allowed: bool = False) -> list[str]:
    """Return the addresses of a host.

    Raises: NotPublic if any of them is not public, or the name can't be; Unreachable if there are
    none.
    """
    if not private_allowed and host.rpartition(".")[2].lower() in PRIVATE_NAMES:
        raise NotPublic(f"{host} is not a public name.")
    if not private_allowed and host.lower().endswith(".home.arpa"):
        raise NotPublic(f"{host} is not a public name.")
    found = _addresses(host, port)
    private = next((address for address in found if not is_public(address)), None)
    if private is not None and not private_allowed:
        raise NotPublic(f"{host} leads to {private}, which is not a public address.")
    return found


_resolvers = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="webhook-look-up")


def _addresses(host: str, port: int) -> list[str]:
    """Ask the resolver, which knows no deadline of ours, in a thread that may be left behind."""
    asked = _resolvers.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = asked.result(TRY_SECONDS_MAX / 2)
    except LookUpTimeout:
        asked.cancel()
        raise Unreachable(f"{host} could not be looked up in time.") from None
    except (OSError, UnicodeError):
        raise Unreachable(f"{host} has no address.") from None
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was looked at, whose every wait ends at `give_up_at`."""

    def __init__(
        self, is_tls: bool, host: str, port: int, addresses: list[str], give_up_at: float
    ) -> None:
        super().__init__(host, port)
        self.give_up_at = give_up_at
        self._is_tls = is_tls
        self._addresses = addresses
        self._plain: socket.socket | None = None
        # The Host header names the port unless it is the scheme's own.
        self.default_port = 443 if is_tls else 80

    def connect(self) -> None:
        failure: OSError = OSError("no address")
        for address in self._addresses:
            try:
                plain = _connect(address, self.port, self._seconds_left())
                break
            except OSError as error:
                failure = error
        else:
            raise failure
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._plain = self._secured(plain)
            self.sock = _Socket(self._plain, self)
        except BaseException:
            plain.close()
            raise

    def _secured(self, plain: socket.socket) -> socket.socket:
        if not self._is_tls:
            return plain
        plain.settimeout(self._seconds_left())
        return ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)

    def is_over(self) -> bool:
        """Tell whether the other side has ended the connection, or sent what nobody asked for."""
        if self._plain is None or self.sock is None:
            return True
        self._plain.settimeout(0)
        try:
            return self._plain.recv(1) is not None
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True

    def _seconds_left(self) -> float:
        left = self.give_up_at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _connect(address: str, port: int, seconds_max: float) -> socket.socket:
    """Connect to a literal address, with nothing looked up on the way."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.settimeout(seconds_max)
        plain.connect((address, port))
    except BaseException:
        plain.close()
        raise
    return plain


class _Socket:
    """What `http.client` needs of a socket, each wait of which ends at the connection's time.

    A socket's own timeout starts over with each byte that a slow server sends.
    """

    def __init__(self, plain: socket.socket, connection: _Connection) -> None:
        self._plain = plain
        self._connection = connection

    def sendall(self, data: Any) -> None:
        self._plain.settimeout(self._connection._seconds_left())
        self._plain.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Received(self._plain, self._connection))

    def close(self) -> None:
        self._plain.close()


class _Received(io.RawIOBase):
    """What a connection receives, until its time is up."""

    def __init__(self, plain: socket.socket, connection: _Connection) -> None:
        self._plain = plain
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._plain.settimeout(self._connection._seconds_left())
        return self._plain.recv_into(buffer)


def _words(failure: Exception) -> str:
    """Return what went wrong, for readers of the log of deliveries."""
    if isinstance(failure, TimeoutError):
        return f"No answer within {TRY_SECONDS_MAX:.0f} seconds."
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"The certificate is not valid: {failure.verify_message}."
    if isinstance(failure, ConnectionRefusedError):
        return "The connection was refused."
    if isinstance(failure, (ConnectionError, http.client.RemoteDisconnected)):
        return "The connection ended before an answer."
    if isinstance(failure, OSError) and failure.strerror:
        return f"{failure.strerror}."
    return f"Not an HTTP answer ({type(failure).__name__})."
