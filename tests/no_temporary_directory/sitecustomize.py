"""Leaves the Python that finds this on its path no directory for temporary files but TMPDIR.

As on a system that is read-only but for the data directory, which a test can't make of its own.
"""

import os
import tempfile

tempfile._candidate_tempdir_list = lambda: [os.environ.get("TMPDIR", "/nowhere")]  # type: ignore[attr-defined]
