"""A relay between a server and PostgreSQL that can swallow what is sent, as a network may."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

RECEIVED_BYTES_MAX = 65_536


class Relay:
    """Forwards connections to a database until it is told to swallow.

    Nothing is refused or ended then: whoever sends hears nothing. What was swallowed is never sent
    on; after `resume` new connections are forwarded, and those that lost something are ended.
    """

    def __init__(self, url: str) -> None:
        parameters = conninfo_to_dict(url)
        self.direct_url = url
        self._target = parameters["host"], int(parameters.get("port") or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._flowing = threading.Event()
        self._flowing.set()
        self._swallow_after, self._packets_later = b"", 0
        self._sockets: set[socket.socket] = set()
        self.port = self._listener.getsockname()[1]
        user, database = quote(str(parameters["user"])), parameters["dbname"]
        self.url = f"postgresql://{user}@127.0.0.1:{self.port}/{database}"
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self, after: bytes = b"", packets_later: int = 0) -> None:
        """Swallow everything from now on, or once these bytes were sent, and so many packets more.

        What was sent until then arrives, and is not answered.
        """
        self._swallow_after, self._packets_later = after, packets_later
        if not after:
            self._flowing.clear()

    @property
    def swallows(self) -> bool:
        return not self._flowing.is_set()

    def resume(self) -> None:
        """End the connections that there are, and forward new ones."""
        self._swallow_after = b""
        self.drop()
        self._flowing.set()

    def drop(self) -> None:
        """End the connections that there are."""
        for connection in self._sockets.copy():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.drop()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._sockets.add(client)
        with client, contextlib.suppress(OSError):
            self._flowing.wait()
            with self._connect() as server:
                self._sockets.add(server)
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join()
                self._sockets.discard(server)
        self._sockets.discard(client)

    def _connect(self) -> socket.socket:
        host, port = self._target
        if not str(host).startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            packets_left = -1
            while data := source.recv(RECEIVED_BYTES_MAX):
                flows = self._flowing.is_set()
                if self._swallow_after and self._swallow_after in data:
                    packets_left = self._packets_later
                elif packets_left > 0:
                    packets_left -= 1
                if packets_left == 0:
                    self._flowing.clear()
                if flows:
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relayed(url: str) -> Iterator[Relay]:
    relay = Relay(url)
    try:
        yield relay
    finally:
        relay.close()
