"""A package, unlike the folders in it: else the `tests` that a dependency installs beside itself would be found instead."""
