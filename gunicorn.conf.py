"""gunicorn's settings; each value with its why."""

from __future__ import annotations

import ctypes
import gc
import logging
import resource
import sys
from typing import Any

import gunicorn
from sqlalchemy.orm import configure_mappers

from core.database import db
from core.sqlite import has_wal_reset_bug, is_sqlite_url
from hits.metrics import SLOTS_MAX
from server.burst_watch import BurstWatch
from server.housekeeping import Housekeeper, give_back_memory
from server.http_heads import BYTES_MAX, FIELDS_MAX
from server.webhook_sender import WebhookSender
from wsgi import app

TESTED_GUNICORNS = frozenset({"27.0.1"})
FILES_MAX = 32_768
# What a worker opens besides connections: on SQLite a thread has the database, its log and a lock.
FILES_OWN, FILES_A_THREAD = 24, 4
# glibc's numbers (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGE_BYTES_MIN = 1024 * 1024
# A thread that works on a page, or on days, gives Python's lock to the event loop after so long.
# The loop asks for it anew with each image that it sends, some dozens in a group: at Python's own
# five milliseconds the last of them waited for a quarter of a second (docs/benchmarks.md).
SWITCH_SECONDS = 0.0005

_settings = app.config["SETTINGS"]

bind = _settings.bind

# Our own lines, in the master and in its workers; gunicorn has loggers of its own.
logging.basicConfig(format="%(message)s")
logging.getLogger("pixelkeep").setLevel(_settings.log_level.upper())

# The application is loaded once and shared by the forked workers' memory.
preload_app = True

# gthread, but that clients are not waited for in its threads, and images have one of their own.
# It leans on gthread's inside, which any release of gunicorn may change.
_is_tested = gunicorn.__version__ in TESTED_GUNICORNS
worker_class = "server.worker.Worker" if _is_tested else "gthread"
# For the API and the pages; with 8 to 64 of them images are as fast (docs/benchmarks.md).
threads = _settings.threads

# With a SQLite that has the WAL-reset bug, writes and checkpoints stay in one process.
_one_process = is_sqlite_url(_settings.sqlalchemy_url) and has_wal_reset_bug()
# Else two by default: one for each core of a small server; each takes about 20 MB.
workers = 1 if _one_process else _settings.workers

# Only `web.forwarded` believes forwarded headers, and only those that the operator names.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}

# Connections are cheap and idle ones end by themselves: as many as the system allows, less what
# the worker opens itself. Beyond its limit of files a worker could not accept, and would end.
_, _files = resource.getrlimit(resource.RLIMIT_NOFILE)
_files = FILES_MAX if _files == resource.RLIM_INFINITY else min(_files, FILES_MAX)
resource.setrlimit(resource.RLIMIT_NOFILE, (_files, _files))
worker_connections = max(_files - FILES_OWN - FILES_A_THREAD * threads, threads + 1)

# A mail client asks once; a proxy or a load test keeps its connection.
keepalive = _settings.idle_seconds

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


def on_starting(_server: Any) -> None:
    """Say what a gunicorn that our worker was not tested with doesn't keep."""
    if not _is_tested:
        print(
            f"WARNING: gunicorn {gunicorn.__version__} was not tested with Pixelkeep's own worker,"
            " so gunicorn's gthread serves: every image answered with 200 is still a stored hit,"
            " but slow clients hold threads and keep images waiting, half-received requests have"
            " no common limit, and requests that can't be read are answered without the image;"
            f" `pip install gunicorn=={max(TESTED_GUNICORNS)}` has all of it.",
            file=sys.stderr,
            flush=True,
        )


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
    taken = {other.metrics_slot for other in server.WORKERS.values()}
    worker.metrics_slot = min(set(range(SLOTS_MAX)) - taken)


def post_fork(_server: Any, worker: Any) -> None:
    """Start each worker without connections of its parent."""
    app.extensions["metrics"].take_slot(worker.metrics_slot)
    with app.app_context():
        db.engine.dispose(close=False)


def post_worker_init(worker: Any) -> None:
    """Let each worker commit its images, look for bursts, and have a housekeeper.

    One of the housekeepers works at a time.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    # PostgreSQL is a network away, for which the event loop can't wait.
    if is_sqlite_url(_settings.sqlalchemy_url):
        worker.commit_now = app.extensions["recorder"].commit_now
    worker.housekeeper = Housekeeper(app)
    worker.housekeeper.start()
    worker.burst_watch = BurstWatch(app)
    worker.burst_watch.start()
    worker.webhook_sender = WebhookSender(app)
    worker.webhook_sender.start()


def worker_exit(_server: Any, worker: Any) -> None:
    """Stop the worker's threads between two steps; a worker that never started has none."""
    for name in ("burst_watch", "housekeeper", "webhook_sender"):
        thread = getattr(worker, name, None)
        if thread:
            thread.stop()
