"""A primary that dies and a standby that is promoted, behind one URL that names both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters import Cluster, cluster_directory, clusters
from tests.conftest import Server, wait_until
from tests.load import UNBOUNDED, Load, stored_numbers

pytestmark = pytest.mark.processes


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary whose commits wait for its standby, and that standby."""
    with clusters() as made:
        primary = Cluster(cluster_directory(), synchronous_standby_names="*")
        made.append(primary)
        primary.make().start()
        standby = Cluster(cluster_directory())
        made.append(standby)
        standby.make_standby_of(primary).start()
        yield primary, standby


def test_hits_go_on_at_the_promoted_standby_and_none_that_was_answered_is_lost(
    pair: tuple[Cluster, Cluster], tmp_path_factory: pytest.TempPathFactory
) -> None:
    primary, standby = pair
    url = f"postgresql://postgres@{primary.address},{standby.address}/postgres"
    server = Server(tmp_path_factory.mktemp("data"), url, **UNBOUNDED).start()
    try:
        pixel = server.admin.create_pixel()
        with Load(server.admin, pixel["slug"]) as load:
            wait_until(lambda: load.statuses[200] > 500)
            primary.stop()
            wait_until(lambda: load.statuses[503] > 50)
            standby.promote()
            enough = load.statuses[200] + 500
            wait_until(lambda: load.statuses[200] > enough)
        assert server.admin.get(f"/api/pixels/{pixel['id']}").status == 200
        answered = {number for number, status in load.answers.items() if status == 200}
        stored = stored_numbers(server, pixel)
        assert answered <= set(stored)
        assert set(stored.values()) == {1}
    finally:
        server.kill()
