"""The Debian package: a virtual environment of its own, units, and what is done on install. See `scripts/package --help`."""
