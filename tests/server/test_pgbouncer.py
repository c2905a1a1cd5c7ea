"""PgBouncer between the service and PostgreSQL, giving sessions for a client's stay or less."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.clusters import USER
from tests.conftest import Server, free_port, wait_until
from tests.load import UNBOUNDED, Load, assert_kept

pytestmark = pytest.mark.needs("pgbouncer")

ASKERS = 8
# Fewer than two nodes have connections, so that in `transaction` mode sessions change hands.
SESSIONS = 20


@pytest.fixture(scope="module", params=["session", "transaction"])
def url(request: pytest.FixtureRequest, postgres: Callable[[], str]) -> Iterator[str]:
    """The URL of an empty database behind a PgBouncer."""
    conninfo = conninfo_to_dict(postgres())
    port = free_port()
    # PgBouncer refuses to be root; pytest's own directories and the sockets are closed to others.
    directory = Path(tempfile.mkdtemp(prefix="pixelkeep-pgbouncer-"))
    sessions = SESSIONS if request.param == "transaction" else 3 * SESSIONS
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={conninfo['host']} user={conninfo['user']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {request.param}\ndefault_pool_size = {sessions}\n"
    )
    for path in (directory, directory / "pgbouncer.ini"):
        path.chmod(0o755)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["pgbouncer", directory / "pgbouncer.ini"],
            user=USER if os.geteuid() == 0 else None,
            cwd="/",
            stdout=log,
            stderr=log,
        )
        url = f"postgresql://{conninfo['user']}@127.0.0.1:{port}/{conninfo['dbname']}"
        wait_until(lambda: answers(url, process, directory))
        yield url
        process.kill()
        process.wait()
    shutil.rmtree(directory)


def answers(url: str, process: subprocess.Popen[bytes], directory: Path) -> bool:
    assert process.poll() is None, (directory / "log").read_text()
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def nodes(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two nodes on one database."""
    key = "k" * 32
    nodes = [
        Server(tmp_path_factory.mktemp("data"), url, secret_key=key, **UNBOUNDED).start()
        for _ in range(2)
    ]
    yield nodes
    for node in nodes:
        node.kill()


def test_hits_and_questions_go_through_a_pooler(nodes: list[Server]) -> None:
    first, second = nodes
    pixel = first.admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}"
    asked = f"{path}/stats?startAt=0&endAt=4102444800000&class=all"
    with Load(first.admin, pixel["slug"]) as load, Load(second.admin, pixel["slug"]) as other:
        with ThreadPoolExecutor(ASKERS) as pool:
            statuses = list(
                pool.map(lambda n: nodes[n % 2].admin.get(asked).status, range(10 * ASKERS))
            )
        wait_until(lambda: min(load.statuses[200], other.statuses[200]) > 1000)
    assert set(statuses) == {200}
    assert set(load.statuses) == set(other.statuses) == {200}
    count = load.statuses[200] + other.statuses[200]
    assert first.hits() == count
    wait_until(lambda: first.admin.get(asked).json["pageviews"] == count)
    assert second.admin.get(asked).json == first.admin.get(asked).json


def test_each_hit_is_stored_once_and_a_changed_pixel_is_noticed(nodes: list[Server]) -> None:
    first, second = nodes
    pixel = first.admin.create_pixel()
    with Load(second.admin, pixel["slug"]) as load:
        wait_until(lambda: load.statuses[200] > 500)
        renamed = first.admin.post(f"/api/pixels/{pixel['id']}", {"slug": f"{pixel['slug']}-new"})
        assert renamed.status == 200
        assert second.admin.get(f"/p/{pixel['slug']}").status == 404
        wait_until(lambda: load.statuses[404] > 50)
    assert set(load.statuses) == {200, 404}
    assert_kept(first, {**pixel, "slug": renamed.json["slug"]}, load.answers)


def test_nothing_is_left_behind_in_a_session(nodes: list[Server], url: str) -> None:
    pixel = nodes[0].admin.create_pixel()
    assert nodes[0].admin.get(f"/p/{pixel['slug']}").status == 200
    with psycopg.connect(url) as connection:
        statements = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        timeout = connection.execute("SHOW lock_timeout").fetchone()
    assert (statements, timeout) == ((0,), ("0",))
