"""The numbers at /metrics, summed over every process, whoever answers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Server, wait_until


def numbers(server: Server) -> dict[str, float]:
    answer = server.admin.with_token(None).get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_metrics_count_hits_by_result_in_every_process(start_server: Callable[..., Server]) -> None:
    server = start_server(workers="3")
    pixel = server.admin.create_pixel()
    for _ in range(30):
        server.admin.get(f"/p/{pixel['slug']}")
        server.admin.get("/p/no-such-pixel")
    for _ in range(8):  # Whichever process answers tells the same.
        found = numbers(server)
        assert found["pixelkeep_hits_total stored"] == 30
        assert found["pixelkeep_hits_total unknown"] == 30
        assert found["pixelkeep_hits_total unstored"] == 0
        assert found["pixelkeep_commit_failures_total"] == 0
        assert found["pixelkeep_hits_waiting"] == 0
        assert found["pixelkeep_commit_hits_sum"] == 30
        assert found["pixelkeep_commit_hits_bucket 1.0"] == found["pixelkeep_commit_hits_count"]
        assert found["pixelkeep_commit_seconds_bucket +Inf"] == 30


def test_no_counter_falls_when_a_worker_dies(start_server: Callable[..., Server]) -> None:
    server = start_server()
    pixel = server.admin.create_pixel()
    for _ in range(20):
        server.admin.get(f"/p/{pixel['slug']}")
    assert server.process
    master = psutil.Process(server.process.pid)
    before = [child.pid for child in master.children()]
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(master.children()) == 2 and master.children()[-1].pid not in before)
    for _ in range(20):
        server.admin.get(f"/p/{pixel['slug']}")
    wait_until(lambda: numbers(server)["pixelkeep_hits_total stored"] == 40)
