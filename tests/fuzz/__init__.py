"""Fuzzers that throw bytes at a real server; the suite runs a few fixed draws of each."""
