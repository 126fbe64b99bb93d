"""Benchmarks: OpenDesk against its peers, in the same run, on this machine. docs/benchmarks.md says what each measures."""
