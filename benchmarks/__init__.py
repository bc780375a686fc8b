"""deformwarp measured against what people use today. Run from the repository root: ``python -m benchmarks.run``."""
