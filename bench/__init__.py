"""Benchmarks, as `python -m bench` or `make bench`: figures beside their floors, in one run, interleaved. No test."""
