"""What Durably costs, one question a file: `python -m benchmarks.run --help`."""
