"""Hosts and clients that behave, and misbehave: for the demo, tests and benchmarks."""
