"""Benchmarks: ratios against plainly written references, measured in the same run. `python -m benchmarks --help`."""
