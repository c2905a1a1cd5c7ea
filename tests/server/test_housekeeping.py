"""What the service does by itself: in one process at a time, whatever goes wrong meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from app import create_app
from core import settings
from core.database import db
from core.locks import sole
from core.settings import PREFIX
from tests.conftest import Server, wait_until


def test_housekeeping_goes_on_after_the_database_failed(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    server.execute("ALTER TABLE erasures RENAME TO hidden")
    wait_until(lambda: "Housekeeping failed and goes on" in server.log)
    server.execute("ALTER TABLE hidden RENAME TO erasures")
    server.execute("INSERT INTO erasures (pixel_number) VALUES (4711)")
    wait_until(lambda: server.query("SELECT * FROM erasures") == [])
    # Once by each process at most.
    assert 1 <= server.log.count("Housekeeping failed") <= 2
    assert "Traceback" not in server.log


def test_stop_amid_an_erasure_is_clean_and_the_next_start_finishes_it(
    start_server: Callable[..., Server], database: str
) -> None:
    server = start_server(database)
    pixel = server.admin.create_pixel()
    server.execute(
        "INSERT INTO hits (pixel_number, id, visitor, profile)"
        " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        f" WHERE i < 300000) SELECT {server.number_of(pixel)}, i, NULL, 1 FROM n"
    )
    server.admin.delete(f"/api/pixels/{pixel['id']}")
    wait_until(lambda: server.hits() < 300_000)
    assert server.stop() == 0
    assert server.query("SELECT count(*) FROM erasures") == [(1,)]
    server.start()
    wait_until(lambda: server.hits() == 0)
    wait_until(lambda: server.query("SELECT count(*) FROM erasures") == [(0,)])
    assert "Traceback" not in server.log


def test_revoked_tokens_are_forgotten_when_they_expire(server: Server) -> None:
    server.execute(
        "INSERT INTO revoked_tokens (id, expires_at) VALUES ('old', 1), ('new', 99999999999999)"
    )
    known = "SELECT id FROM revoked_tokens WHERE id IN ('old', 'new')"
    wait_until(lambda: server.query(known) == [("new",)])


def test_a_job_is_one_process_s_alone(server: Server) -> None:
    names = {name: value for name, value in server.env.items() if name.startswith(PREFIX)}
    apps = [create_app(settings.load(names)) for _ in range(2)]
    engines = []
    for app in apps:
        with app.app_context():
            engines.append(db.engine)
    one, other = engines
    try:
        with sole(one, "reclassify") as mine:
            assert mine
            with sole(other, "reclassify") as others:
                assert not others
            with sole(other, "reclassify") as others:
                assert not others
        with sole(other, "reclassify") as mine:
            assert mine
    finally:
        for engine in engines:
            engine.dispose()
