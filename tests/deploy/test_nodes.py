"""Three nodes behind HAProxy's example on one PostgreSQL, of which each part fails in turn."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.clusters import Cluster, cluster_directory, clusters
from tests.conftest import PROJECT_DIR, Client, Server, free_port, unique, wait_until
from tests.hits.test_clock import SkewedServer
from tests.load import UNBOUNDED, Load, stored_numbers

pytestmark = pytest.mark.needs("haproxy")

NODES = 3
CLIENTS = 12
SPAN = "startAt=0&endAt=4102444800000&class=all"
# Of HAProxy, for a node that is gone, and ours, for a database that is.
ANSWERS = {200, 502, 503, 504, None}


@dataclass
class Site:
    """What mail clients reach, and what is behind it."""

    client: Client
    nodes: list[Server]
    cluster: Cluster


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with clusters() as made:
        cluster = Cluster(cluster_directory())
        made.append(cluster)
        cluster.make().start()
        settings = {"secret_key": "k" * 32, "trusted_proxies": "1", **UNBOUNDED}
        nodes: list[Server] = [
            SkewedServer(tmp_path_factory.mktemp(f"node-{number}"), cluster.url, **settings).start()
            for number in range(NODES)
        ]
        port = free_port()
        config = tmp_path_factory.mktemp("haproxy") / "haproxy.cfg"
        config.write_text(configuration(port, nodes))
        process = subprocess.Popen(["haproxy", "-f", config], env=os.environ)
        try:
            client = Client(f"http://127.0.0.1:{port}", nodes[0].admin.token)
            wait_until(lambda: process.poll() is not None or is_up(client))
            assert process.poll() is None
            yield Site(client, nodes, cluster)
        finally:
            process.kill()
            process.wait()
            for node in nodes:
                if node.process and node.process.poll() is None:
                    node.kill()


def configuration(port: int, nodes: list[Server]) -> str:
    """Return HAProxy's example without TLS, and with these nodes."""
    lines = (PROJECT_DIR / "deploy" / "haproxy.cfg").read_text().splitlines()
    left_out = ("bind :443", "http-request redirect", "http-request set-header X-Forwarded-Proto")
    kept = [line for line in lines if not line.strip().startswith(left_out)]
    text = "\n".join(kept).replace("bind :80", f"bind 127.0.0.1:{port}")
    text = text.replace("/opt/pixelkeep/deploy", str(PROJECT_DIR / "deploy"))
    images = "\n".join(
        f"    server n{number} 127.0.0.1:{node.port}" for number, node in enumerate(nodes)
    )
    others = "\n".join(
        f"    server n{number} 127.0.0.1:{node.port} track images/n{number}"
        for number, node in enumerate(nodes)
    )
    for old, new in (
        ("    server one 127.0.0.1:8000 track images/one", others),
        ("    server one 127.0.0.1:8000", images),
    ):
        assert old in text
        text = text.replace(old, new)
    return text + "\n"


def is_up(client: Client) -> bool:
    try:
        return client.get("/api/heartbeat").status == 200
    except OSError:
        return False


def goes_on(load: Load) -> None:
    enough = load.statuses[200] + 20 * CLIENTS
    wait_until(lambda: load.statuses[200] > enough)


def assert_kept_and_alike(site: Site, pixel: dict[str, Any], load: Load) -> None:
    answered = {number for number, status in load.answers.items() if status == 200}
    stored = stored_numbers(site.nodes[0], pixel)
    assert answered <= set(stored)
    assert set(stored.values()) == {1}
    assert set(load.statuses) <= ANSWERS
    path = f"/api/pixels/{pixel['id']}"
    for asked in (f"{path}/stats?{SPAN}", f"{path}/metrics?type=query&limit=100&{SPAN}"):
        answers = [node.admin.with_token(site.client.token).get(asked) for node in site.nodes]
        assert {answer.status for answer in answers} == {200}
        assert [answer.json for answer in answers] == [answers[0].json] * NODES
    count = site.nodes[0].admin.get(f"{path}/stats?{SPAN}").json["pageviews"]
    assert count == sum(stored.values())


def database_now_ms(node: Server) -> int:
    return int(node.query("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)")[0][0])


def test_nodes_are_killed_and_stopped_in_turn_and_no_answered_hit_is_lost(site: Site) -> None:
    pixel = site.client.create_pixel(unique("turn"))
    with Load(site.client, pixel["slug"], CLIENTS) as load:
        for node in site.nodes:
            goes_on(load)
            node.kill()
            goes_on(load)
            node.start()
            assert node.stop(signal.SIGTERM) == 0
            goes_on(load)
            node.start()
    assert_kept_and_alike(site, pixel, load)


def test_postgresql_is_killed_and_started_and_no_answered_hit_is_lost(site: Site) -> None:
    pixel = site.client.create_pixel(unique("database"))
    with Load(site.client, pixel["slug"], CLIENTS) as load:
        goes_on(load)
        site.cluster.stop("immediate")
        enough = load.statuses[503] + CLIENTS
        wait_until(lambda: load.statuses[503] > enough)
        site.cluster.start()
        goes_on(load)
    wait_until(lambda: all(node.admin.get("/healthz").status == 200 for node in site.nodes))
    assert_kept_and_alike(site, pixel, load)


def test_a_node_whose_clock_is_minutes_off_dates_and_counts_as_the_others_do(site: Site) -> None:
    pixel = site.client.create_pixel(unique("clock"))
    askew = site.nodes[-1]
    assert isinstance(askew, SkewedServer)
    before = database_now_ms(askew)
    try:
        for seconds in (120, -120):
            askew.move_clock(seconds)
            with Load(site.client, pixel["slug"], CLIENTS) as load:
                goes_on(load)
            assert askew.admin.get(f"/p/{pixel['slug']}").status == 200
    finally:
        askew.move_clock(0)
    number = askew.number_of(pixel)
    [(first, last)] = askew.query(
        "SELECT min(coalesce(dated_ms, id >> 20)), max(coalesce(dated_ms, id >> 20))"
        f" FROM hits WHERE pixel_number = {number}"
    )
    assert before <= first <= last <= database_now_ms(askew)
    path = f"/api/pixels/{pixel['id']}/stats?{SPAN}"
    answers = [node.admin.with_token(site.client.token).get(path).json for node in site.nodes]
    assert answers == [answers[0]] * NODES
