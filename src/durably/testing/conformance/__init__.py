"""The parts of `durably.testing.store_conformance`, one for each theme. They need pytest."""
