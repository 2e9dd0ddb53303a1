"""What a benchmark lets run against each other: one module each, started as a process of its own.

A contestant trains step by step and stops at its `Turnstile` until the benchmark lets it take the next ones. So several can take
turns on the same cores within one run, each in the middle of its training, and none computes while it waits.
"""
