"""Which tests run on which of several workers, and in which order (`script/test`)."""

from __future__ import annotations

from zlib import crc32

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

# The seconds of the files that take longest, roughly, so that none is begun when all else is done.
SECONDS = {
    "tests/web/api/test_webhooks.py": 112,
    "tests/web/pages/test_browser.py": 106,
    "tests/deploy/test_nodes.py": 81,
    "tests/hits/test_clock.py": 55,
    "tests/hits/test_failures.py": 55,
    "tests/hits/test_network.py": 55,
    "tests/server/test_start.py": 53,
    "tests/upkeep/test_moving.py": 50,
    "tests/web/api/test_fuzz.py": 46,
    "tests/web/api/test_webhook_waiting.py": 45,
    "tests/upkeep/test_bursts.py": 40,
    "tests/upkeep/test_imports.py": 39,
    "tests/upkeep/test_retention.py": 39,
    "tests/server/test_housekeeping.py": 38,
    "tests/stats/test_folding.py": 37,
    "tests/web/api/test_webhook_load.py": 35,
    "tests/server/test_slow_clients.py": 35,
    "tests/server/test_migrating.py": 31,
    "tests/hits/test_privacy.py": 31,
    "tests/upkeep/test_demo.py": 30,
}
# Files whose tests share nothing that is dear, and that are many: each is handed out in parts.
PARTS = {"tests/web/test_permissions.py": 8}


class LongestFirst(LoadFileScheduling):
    """Hands a file to one worker, so that its tests share its servers; the longest files first."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return f"{file} {crc32(nodeid.encode()) % PARTS[file]}" if file in PARTS else file

    def _assign_work_unit(self, node: WorkerController) -> None:
        longest = max(self.workqueue, key=self._weight)
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)

    def _weight(self, unit: str) -> tuple[int, int]:
        return SECONDS.get(unit, 0), len(self.workqueue[unit])
