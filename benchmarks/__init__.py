"""The suites of bench.py."""
