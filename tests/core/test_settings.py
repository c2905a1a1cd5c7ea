"""The table of settings, as code reads it and as people do."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from core import settings
from core.settings import PREFIX, PROJECT_DIR, Settings, SettingsError
from tests.conftest import Server


def test_readme_lists_every_setting_with_its_default() -> None:
    readme = (PROJECT_DIR / "README.md").read_text()
    for setting in fields(Settings):
        row = f"| `{PREFIX}{setting.name.upper()}` | {setting.metadata['shown']} |"
        assert row in readme, row


def test_command_lists_every_setting_and_hides_secrets(server: Server) -> None:
    listed = json.loads(server.cli("settings", "--json").stdout)
    assert [row["name"] for row in listed] == [
        PREFIX + setting.name.upper() for setting in fields(Settings)
    ]
    by_name = {row["name"]: row["value"] for row in listed}
    assert by_name["PIXELKEEP_ADMIN_PASSWORD"] == "(set)"
    assert by_name["PIXELKEEP_BIND"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("name", ["PIXELKEEP_SECRET_KEY", "PIXELKEEP_ADMIN_PASSWORD"])
def test_error_about_a_secret_does_not_show_it(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({name: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_two_sources_of_the_secret_key_are_refused(tmp_path) -> None:
    path = tmp_path / "key"
    path.write_text("k" * 16)
    with pytest.raises(SettingsError, match="not both"):
        settings.load({"PIXELKEEP_SECRET_KEY": "k" * 16, "PIXELKEEP_SECRET_KEY_FILE": str(path)})


def test_secret_keys_are_oldest_first_so_that_the_newest_signs() -> None:
    loaded = settings.load({"PIXELKEEP_SECRET_KEY": "new-key-0123456789 old-key-0123456789"})
    assert loaded.secret_keys() == ["old-key-0123456789", "new-key-0123456789"]


def test_an_empty_secret_key_file_is_refused(tmp_path) -> None:
    path = tmp_path / "key"
    path.touch()
    loaded = settings.load({"PIXELKEEP_SECRET_KEY_FILE": str(path)})
    with pytest.raises(SettingsError, match="can't be used"):
        loaded.secret_keys()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://h/d", "postgresql+psycopg://h/d"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("sqlite+pysqlite:////a/b.db", "sqlite:////a/b.db"),
        ("sqlite:///b.db", f"sqlite:///{PROJECT_DIR}/b.db"),
        ("sqlite:////a%20b/c%25.db", "sqlite:////a%20b/c%25.db"),
        ("postgresql://u:p@h:5433/d", "postgresql+psycopg://u:p@h:5433/d"),
        (
            "postgresql://u:p@h1:5432,h2:5433/d",
            "postgresql+psycopg://u:p@/d?host=h1%2Ch2&port=5432%2C5433"
            "&target_session_attrs=read-write",
        ),
        (
            "postgresql://h1,[::1]:7/d?target_session_attrs=any",
            "postgresql+psycopg:///d?host=h1%2C%3A%3A1&port=5432%2C7&target_session_attrs=any",
        ),
    ],
)
def test_database_url_names_the_driver(url: str, kept: str) -> None:
    assert settings.load({"PIXELKEEP_DATABASE_URL": url}).sqlalchemy_url == kept


@pytest.mark.parametrize(
    ("bind", "base"),
    [
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:81", "http://[::1]:81"),
        ("127.0.0.1:82", "http://127.0.0.1:82"),
    ],
)
def test_base_url_reaches_the_bound_address(bind: str, base: str) -> None:
    assert settings.load({"PIXELKEEP_BIND": bind}).base_url == base


def test_connections_of_trusted_proxies_are_kept_for_longer_than_they_keep_them() -> None:
    assert settings.load({}).idle_seconds == 5
    assert settings.load({"PIXELKEEP_TRUSTED_PROXIES": "1"}).idle_seconds == 75
    chosen = {"PIXELKEEP_TRUSTED_PROXIES": "1", "PIXELKEEP_KEEPALIVE_SECONDS": "30"}
    assert settings.load(chosen).idle_seconds == 30


def test_trusted_headers_are_named_in_any_case() -> None:
    chosen = settings.load({"PIXELKEEP_TRUSTED_HEADERS": "For, HOST"})
    assert chosen.trusted_headers == "for,host"


def test_relative_paths_are_the_projects_wherever_the_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.load({"PIXELKEEP_DATA_DIR": "data"}).data_dir == PROJECT_DIR / "data"
    found = settings.load({"PIXELKEEP_SECRET_KEY_FILE": "README.md"})
    assert found.secret_key_file == PROJECT_DIR / "README.md"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BIND", "[::1:8000"),
        ("BIND", "::1:8000"),
        ("BIND", "[]:8000"),
        ("BIND", "127.0.0.1:\N{ARABIC-INDIC DIGIT THREE}000"),
        ("DATA_DIR", "~no-such-user/data"),
        ("SECRET_KEY_FILE", "~no-such-user/key"),
        ("TRUSTED_HEADERS", ""),
        ("TRUSTED_HEADERS", "for,by"),
        ("TRUSTED_HEADERS", "x-forwarded-for"),
        ("KEEPALIVE_SECONDS", "0"),
        ("DATABASE_URL", "sqlite:///"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:////srv/q?x/a.db"),
        ("DATABASE_URL", "sqlite:///file:a.db"),
        ("DATA_DIR", "/srv/\udcff"),
        ("DATABASE_URL", "postgresql://u:p@h:abc/d"),
        ("DATABASE_URL", "mysql://h/d"),
        ("PUBLIC_URL", "https://x y"),
        ("PUBLIC_URL", "https://x\ny"),
        ("PUBLIC_URL", "http://a:99999"),
        ("PUBLIC_URL", "http://a:b"),
        ("PUBLIC_URL", "http://:80"),
        ("PUBLIC_URL", "https://a/?"),
    ],
)
def test_value_that_cannot_work_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"PIXELKEEP_{name}"):
        settings.load({f"PIXELKEEP_{name}": value})


def test_names_without_the_prefix_are_not_ours() -> None:
    assert settings.load({"BIND": "x", "PIXEL": "y"}) == Settings()
