"""Signing keys: made once, rotated with the old still good, and dropped."""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest

from tests.conftest import PASSWORD, Server, verdicts


def restart(server: Server) -> None:
    assert server.stop() == 0
    server.start()


def test_new_key_signs_and_the_old_one_still_verifies(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    path = server.data_dir / "secret_key"
    [old] = path.read_text().split()
    credentials = {"username": "admin", "password": PASSWORD}
    token = server.admin.post("/api/auth/login", credentials).json["token"]
    pixel = server.admin.create_pixel()
    embed = f"/api/pixels/{pixel['id']}/embed?recipient=a@example.org"
    link = server.admin.get(embed).json["url"].removeprefix(server.base)

    assert "Restart" in server.cli("secret", "rotate").stdout
    new, kept = path.read_text().split()
    assert kept == old != new
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    restart(server)
    assert server.admin.get("/api/me").status == 200
    assert server.admin.with_token(token).get("/api/me").status == 200
    assert server.admin.get(link).status == 200
    assert server.admin.get(embed).json["url"].removeprefix(server.base) != link

    server.cli("secret", "rotate", "--drop-old", "--yes")
    [last] = path.read_text().split()
    assert last not in (old, new)
    restart(server)
    assert server.admin.get("/api/me").status == 401
    assert server.admin.with_token(token).get("/api/me").status == 401
    assert server.admin.get(link).status == 200
    assert [who for _, _, who in verdicts(server, pixel)] == ["a@example.org", None]
    assert server.admin.post("/api/auth/login", credentials).status == 200


@pytest.mark.parametrize("drop", [[], ["--drop-old", "--yes"]])
def test_keys_in_the_environment_are_rotated_there(
    start_server: Callable[..., Server], drop: list[str]
) -> None:
    server = start_server(secret_key="a-key-of-the-environment")
    done = server.cli("secret", "rotate", *drop, check=False)
    assert done.returncode != 0
    assert "PIXELKEEP_SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr
