"""gunicorn's settings; each value with its why."""

from __future__ import annotations

import ctypes
import gc
import resource
from typing import Any

from sqlalchemy.orm import configure_mappers

from core.database import db
from core.sqlite import has_wal_reset_bug, is_sqlite_url
from hits.metrics import SLOTS_MAX
from server.housekeeping import Housekeeper, give_back_memory
from server.http_heads import BYTES_MAX, FIELDS_MAX
from wsgi import app

FILES_MAX = 32_768
FILES_KEPT = 400
# glibc's numbers (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGE_BYTES_MIN = 1024 * 1024

_settings = app.config["SETTINGS"]

bind = _settings.bind

# The application is loaded once and shared by the forked workers' memory.
preload_app = True

# gthread, but that clients are not waited for in its threads, and images have one of their own.
worker_class = "server.worker.Worker"
# For the API and the pages; with 8 to 64 of them images are as fast (docs/benchmarks.md).
threads = _settings.threads

# With a SQLite that has the WAL-reset bug, writes and checkpoints stay in one process.
_one_process = is_sqlite_url(_settings.sqlalchemy_url) and has_wal_reset_bug()
# Else two by default: one for each core of a small server; each takes about 20 MB.
workers = 1 if _one_process else _settings.workers

# Forwarded headers are believed by ProxyFix alone, and only as many as the operator says.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}

# Connections are cheap and idle ones end by themselves: as many as the system allows, less what
# the worker opens itself. Beyond its limit of files a worker could not accept, and would end.
_, _files = resource.getrlimit(resource.RLIMIT_NOFILE)
_files = FILES_MAX if _files == resource.RLIM_INFINITY else min(_files, FILES_MAX)
resource.setrlimit(resource.RLIMIT_NOFILE, (_files, _files))
worker_connections = max(_files - FILES_KEPT, threads + 1)

# A mail client asks once; a proxy or a load test keeps its connection.
keepalive = 5

# Longer than the busy timeout, so that a stop finishes every hit it took.
graceful_timeout = 15
timeout = 60

# No access log, and no warnings, of which one is of requests that can't be read: both would hold
# addresses.
accesslog = None
errorlog = "-"
loglevel = "error"

# Request lines and headers longer than any mail client sends are refused.
limit_request_line = BYTES_MAX
limit_request_fields = FIELDS_MAX
limit_request_field_size = BYTES_MAX


# gunicorn's control socket would be a file in HOME that takes commands.
control_socket_disable = True


def when_ready(_server: Any) -> None:
    """Prepare the memory that workers inherit."""
    # Each worker's first question would have done it, and parted 6 MB.
    configure_mappers()
    # The collector's own marks would part what workers share with the master.
    gc.collect()
    gc.freeze()
    give_back_memory()
    _keep_no_large_arrays()


def _keep_no_large_arrays() -> None:
    """Let glibc return large arrays at once; others do by themselves.

    Left alone it learns from the first large array to keep the next ones: after a day of 900,000
    hits had been folded the server held 100 MiB more.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES_MIN)
        libc.mallopt(M_TRIM_THRESHOLD, LARGE_BYTES_MIN)
        # By default as many heaps as threads, each with leftovers of its own.
        libc.mallopt(M_ARENA_MAX, 2)


def pre_fork(server: Any, worker: Any) -> None:
    """Choose where a new worker counts: where no living one does."""
    taken = {each.metrics_slot for each in server.WORKERS.values()}
    worker.metrics_slot = min(set(range(SLOTS_MAX)) - taken)


def post_fork(_server: Any, worker: Any) -> None:
    """Start each worker without connections of its parent."""
    app.extensions["metrics"].take_slot(worker.metrics_slot)
    with app.app_context():
        db.engine.dispose(close=False)


def post_worker_init(worker: Any) -> None:
    """Let each worker commit its images, and have a housekeeper; one of them works at a time."""
    # PostgreSQL is a network away, for which the event loop can't wait.
    if is_sqlite_url(_settings.sqlalchemy_url):
        worker.commit_now = app.extensions["recorder"].commit_now
    worker.housekeeper = Housekeeper(app)
    worker.housekeeper.start()


def worker_exit(_server: Any, worker: Any) -> None:
    """Stop the housekeeper between two steps; a worker that never started has none."""
    housekeeper = getattr(worker, "housekeeper", None)
    if housekeeper:
        housekeeper.stop()
