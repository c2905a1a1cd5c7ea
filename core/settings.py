"""The table of settings: environment variables in, one frozen `Settings` out.

Nothing else in the project reads the environment. A name or a value that is wrong stops the
start with one line: a server that runs on a guess loses hits or leaks addresses later.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

PREFIX = "PIXELKEEP_"
PROJECT_DIR = Path(__file__).resolve().parent.parent
SECRET_CHARACTERS_MIN = 16
SECRET_BYTES = 32
POSTGRESQL_PORT = 5432
FORWARDED_HEADERS = ("for", "proto", "host", "port", "prefix")
# Of one process: `database.HITS_CONNECTIONS` for hits, two for looks whether the database answers,
# four for the locks of two jobs and two folds (`locks`), and one for what is done.
CONNECTIONS_A_PROCESS_MIN = 10
# nginx and AWS's balancers keep idle connections for 60 s. Had we ended one a moment before a
# request on it, the proxy would answer with an error of its own.
KEEPALIVE_SECONDS_OF_PROXIES, KEEPALIVE_SECONDS = 75, 5


class SettingsError(Exception):
    """A setting that can't be used; its text is the one line the operator sees."""


def load(environ: Mapping[str, str]) -> Settings:
    """Read every `PIXELKEEP_*` variable of `environ`.

    Raises: SettingsError for an unknown name or a value that doesn't parse.
    """
    table = {PREFIX + setting.name.upper(): setting for setting in fields(Settings)}
    values: dict[str, Any] = {}
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        if name not in table:
            close = difflib.get_close_matches(name, table, n=1, cutoff=0.85)
            hint = (
                f"did you mean {close[0]}?" if close else "`script/pixelkeep settings` lists them."
            )
            raise SettingsError(f"{name} is not a setting; {hint}")
        setting, value = table[name], environ[name]
        try:
            values[setting.name] = setting.metadata["parse"](value)
        except (ValueError, OSError, RuntimeError) as error:
            shown = name if setting.metadata["secret"] else f"{name}={value!r}"
            raise SettingsError(f"{shown} can't be used: {error}") from None
    settings = Settings(**values)
    if settings.secret_key and settings.secret_key_file:
        raise SettingsError("Set PIXELKEEP_SECRET_KEY or PIXELKEEP_SECRET_KEY_FILE, not both.")
    return settings


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    is_host = bool(host.strip("[]")) and (is_bracketed or not set("[]:") & set(host))
    if not is_host or not _is_number(port) or not 0 < int(port) < 65536:
        raise ValueError(
            "expected host:port with a port from 1 to 65535, as 127.0.0.1:8000 or [::1]:8000"
        )
    return text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _path(text: str) -> Path:
    """Return the path meant: the same for each command, wherever it is called."""
    return (PROJECT_DIR / Path(text).expanduser()).resolve()


def _directory(text: str) -> Path:
    if not text:
        raise ValueError("expected a directory")
    if not _is_utf8(text):
        raise ValueError("a name in it is not UTF-8")
    return _path(text)


def _is_utf8(text: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in text)


def _existing_file(text: str) -> Path:
    path = _path(text)
    if not path.is_file():
        raise ValueError("no such file")
    return path


def _database_url(text: str) -> str:
    for scheme in ("sqlite:///", "sqlite+pysqlite:///"):
        path, question_mark, _ = text.removeprefix(scheme).partition("?")
        if text.startswith(scheme) and path not in ("", ":memory:"):
            if question_mark or path.startswith("file:"):
                raise ValueError("a SQLite URL names a file and takes no options; %3F is a ?")
            return _sqlite_url(_path(unquote(path)))
    for scheme in ("postgresql+psycopg://", "postgresql://", "postgres://"):
        if text.startswith(scheme):
            url = _postgresql_url(text.removeprefix(scheme))
            if url:
                return url
    raise ValueError("expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME")


def _postgresql_url(rest: str) -> str | None:
    """Return SQLAlchemy's URL for one of libpq's without its scheme, None if it can't be read.

    Of several hosts, `h1:5432,h2:5433`, the one that takes writes is meant, unless the URL says
    otherwise: which one that is changes with a failover.
    """
    url = f"postgresql+psycopg://{rest}"
    place, _, tail = rest.partition("/")
    user, at, hosts = place.rpartition("@")
    if "," not in hosts:
        return url if _has_good_port(url) else None
    authorities = [f"//{host}" for host in hosts.split(",")]
    if not all(urlsplit(host).hostname and _has_good_port(host) for host in authorities):
        return None
    parts = [urlsplit(host) for host in authorities]
    name, _, query = tail.partition("?")
    options = {
        "host": ",".join(part.hostname or "" for part in parts),
        "port": ",".join(str(part.port or POSTGRESQL_PORT) for part in parts),
    }
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    options = {**options, "target_session_attrs": "read-write", **parameters}
    return f"postgresql+psycopg://{user}{at}/{name}?{urlencode(options)}"


def _sqlite_url(path: Path) -> str:
    """Return the URL of a file, whatever characters its path has."""
    return f"sqlite:///{quote(str(path))}"


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    is_base = parts.scheme in ("http", "https") and parts.hostname and _has_good_port(text)
    is_plain = text.isprintable() and " " not in text and not set("?#") & set(text)
    if not is_base or not is_plain:
        raise ValueError("expected a base such as https://pixel.example.org")
    return text.rstrip("/")


def _has_good_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not _is_number(text) or not low <= int(text) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(text)

    return parse


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("expected 0 or 1")
    return text == "1"


def _log_level(text: str) -> str:
    if text.lower() not in ("debug", "info", "warning", "error"):
        raise ValueError("expected debug, info, warning or error")
    return text.lower()


def _synchronous(text: str) -> str:
    if text.upper() not in ("FULL", "NORMAL"):
        raise ValueError("expected FULL or NORMAL")
    return text.upper()


def _forwarded_headers(text: str) -> str:
    names = [name.strip().lower() for name in text.split(",")]
    if not set(names) <= set(FORWARDED_HEADERS):
        raise ValueError(f"expected some of {','.join(FORWARDED_HEADERS)}")
    return ",".join(names)


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text.strip()


def _secret(text: str) -> str:
    keys = text.split()
    if not keys or any(len(key) < SECRET_CHARACTERS_MIN for key in keys):
        raise ValueError(f"each key needs {SECRET_CHARACTERS_MIN} characters or more")
    return " ".join(keys)


def _password(text: str) -> str:
    if len(text) < 8:
        raise ValueError("expected 8 characters or more")
    return text


def _setting(
    default: Any,
    parse: Callable[[str], Any],
    meaning: str,
    shown: str = "",
    *,
    secret: bool = False,
) -> Any:
    metadata = {
        "parse": parse,
        "meaning": meaning,
        "shown": shown or str(default),
        "secret": secret,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Every setting once: its default, its parser and its meaning."""

    bind: str = _setting("127.0.0.1:8000", _address, "address and port to listen on")
    data_dir: Path = _setting(
        PROJECT_DIR / "instance",
        _directory,
        "where the SQLite file pixelkeep.db and the generated secret_key (mode 0600) live;"
        " relative paths, here and below, are the project's",
        "instance in the project",
    )
    database_url: str = _setting(
        "",
        _database_url,
        "any SQLAlchemy URL of SQLite or PostgreSQL",
        "SQLite in the data directory",
        secret=True,
    )
    database_connections: int = _setting(
        30,
        _whole_number(CONNECTIONS_A_PROCESS_MIN, 10_000),
        "connections to PostgreSQL that a node has at most, divided among its processes, of which"
        f" each has at least {CONNECTIONS_A_PROCESS_MIN}; those that are idle are given back",
    )
    secret_key: str = _setting(
        "",
        _secret,
        "signs tokens and links; several keys, separated by spaces and the newest first, rotate it",
        "generated into the data directory",
        secret=True,
    )
    secret_key_file: Path | None = _setting(
        None, _existing_file, "a file to read the secret key from instead", "none"
    )
    admin_username: str = _setting("admin", _filled, "the first user's name, at first start only")
    admin_password: str = _setting(
        "",
        _password,
        "the first user's password, at first start only",
        "random, in first_start.txt",
        secret=True,
    )
    public_url: str = _setting(
        "", _public_url, "base of the URLs in embed snippets", "from the request"
    )
    trusted_proxies: int = _setting(
        0,
        _whole_number(0, 16),
        "how many reverse proxies in front may set X-Forwarded-*; 0 ignores those headers",
    )
    trusted_headers: str = _setting(
        "for,proto",
        _forwarded_headers,
        "which of X-Forwarded-For, -Proto, -Host, -Port and -Prefix those proxies set; the others"
        " are ignored",
    )
    keepalive_seconds: int | None = _setting(
        None,
        _whole_number(1, 3600),
        "seconds after which an idle connection is ended; longer than proxies in front keep theirs",
        "75 behind trusted proxies, else 5",
    )
    api_rate_limit: int = _setting(
        0,
        _whole_number(0, 1_000_000),
        "requests a minute that one address may send to the JSON API, the pages and shares, images"
        " apart; 0 for any",
    )
    new_values_per_hour: int = _setting(
        500,
        _whole_number(1, 1_000_000_000),
        "new agents, queries, referrers and host names that hits of one address (IPv6: /64) may"
        " bring in an hour; beyond that they are stored as `other`",
    )
    new_values_per_day: int = _setting(
        20_000,
        _whole_number(1, 1_000_000_000),
        "the same for all hits of one pixel in a day",
    )
    log_level: str = _setting(
        "warning",
        _log_level,
        "how much goes to standard error: debug, info, warning or error",
    )
    workers: int = _setting(2, _whole_number(1, 64), "gunicorn processes")
    threads: int = _setting(
        16,
        _whole_number(1, 256),
        "threads in each process, for the API and the pages; images have one more",
    )
    synchronous: str = _setting(
        "FULL",
        _synchronous,
        "SQLite's own setting: FULL survives power loss, NORMAL a killed process",
    )
    retention_days: int = _setting(
        0,
        _whole_number(0, 36500),
        "hits older than this are deleted daily by the service itself, and by"
        " `script/pixelkeep prune`, their daily totals kept; 0 keeps them",
    )
    geoip_db: Path | None = _setting(
        None,
        _existing_file,
        "a MaxMind-format .mmdb for countries instead of the built-in table",
        "none",
    )
    rules: Path | None = _setting(
        None,
        _existing_file,
        "a TOML file of the operator's own rules for classes, see docs/rules.md",
        "none",
    )
    respect_dnt: bool = _setting(
        False,
        _switch,
        "1: a hit with `DNT: 1` or `Sec-GPC: 1` is counted, but not attributed to a visitor or"
        " recipient",
        "0",
    )
    webhook_private: bool = _setting(
        False,
        _switch,
        "1: webhooks may go to addresses that are not public",
        "0",
    )

    @property
    def sqlalchemy_url(self) -> str:
        """The database in use, `database_url` or the SQLite file in the data directory."""
        return self.database_url or _sqlite_url(self.data_dir / "pixelkeep.db")

    @property
    def connections_a_process(self) -> int:
        """How many connections to PostgreSQL each process has at most."""
        return max(self.database_connections // self.workers, CONNECTIONS_A_PROCESS_MIN)

    @property
    def idle_seconds(self) -> int:
        """After how long an idle connection is ended."""
        by_default = KEEPALIVE_SECONDS_OF_PROXIES if self.trusted_proxies else KEEPALIVE_SECONDS
        return self.keepalive_seconds or by_default

    @property
    def base_url(self) -> str:
        """The URL that reaches the server: the public one, else the local address."""
        host, _, port = self.bind.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
        return self.public_url or f"http://{host}:{port}"

    @property
    def secret_path(self) -> Path:
        """The file that holds the signing keys, the newest first."""
        return self.secret_key_file or self.data_dir / "secret_key"

    @property
    def first_start_path(self) -> Path:
        """The file that holds the first start's secrets until the admin has signed in."""
        return self.data_dir / "first_start.txt"

    @property
    def setup_hint(self) -> str:
        """What to do where nothing is set up: most likely another directory is meant."""
        if self.data_dir != PROJECT_DIR / "instance":
            return "`script/server` sets it up."
        return (
            f"No PIXELKEEP_DATA_DIR is named, so {self.data_dir} is meant: name the directory of"
            " the service if it has another. `script/server` sets up a new one here."
        )

    def secret_keys(self) -> list[str]:
        """Return the signing keys, oldest first: the last signs, all verify (itsdangerous).

        Raises: SettingsError where there is no key, or none that can be used.
        """
        if self.secret_key:
            return self.secret_key.split()[::-1]
        path = self.secret_path
        try:
            return _secret(path.read_text()).split()[::-1]
        except FileNotFoundError:
            raise SettingsError(f"There is no {path}. {self.setup_hint}") from None
        except (ValueError, OSError) as error:
            raise SettingsError(f"The secret key in {path} can't be used: {error}") from None
