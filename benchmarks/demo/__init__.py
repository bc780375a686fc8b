"""The layer against the calls it replaces, and at work on a photograph: ``python -m benchmarks.demo``."""
