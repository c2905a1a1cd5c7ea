"""The benchmarks; they stand apart from the service."""
