"""OpenDesk: rent PCs by the minute, and sell access behind MikroTik hotspots."""

from typing import Final

# As in pyproject.toml: a checkout is not installed, so no metadata tells it.
__version__: Final = "0.1.0"
