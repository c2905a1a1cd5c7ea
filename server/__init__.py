"""How the process runs: start, preparation, worker, housekeeping."""
