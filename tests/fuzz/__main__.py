"""The long runs: `script/fuzz --seconds 600`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import Server
from tests.fuzz import framings, readers

FUZZERS = {"readers": readers.run, "framings": framings.run}


def main() -> None:
    """Run the fuzzers that are named, each on a server of its own."""
    parser = argparse.ArgumentParser(prog="script/fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="readers|framings", help="both by default")
    parser.add_argument("--seconds", type=float, default=60, help="of each (default 60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="by default the time")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(FUZZERS):
        parser.error(f"no such fuzzer: {', '.join(sorted(unknown))}")
    print(f"seed {chosen.seed}")
    found: list[str] = []
    for name in chosen.names or FUZZERS:
        with tempfile.TemporaryDirectory(prefix="pixelkeep-fuzz-") as directory:
            server = Server(Path(directory), None, workers="1").start()
            try:
                found += FUZZERS[name](server, chosen.seconds, chosen.seed)
            finally:
                server.kill()
    print("\n".join(found[:20]))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
