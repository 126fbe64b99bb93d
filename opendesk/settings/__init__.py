"""Settings, frozen, from the environment, an env file and systemd's credentials; all faults at once.

`table.py` declares each once; the loader, `opendesk settings` and docs/settings.md all read that.
"""

from opendesk.settings.load import SettingsError, load, load_with_faults
from opendesk.settings.routers import RouterNode
from opendesk.settings.secret import Secret, any_matches
from opendesk.settings.show import Row, describe, markdown
from opendesk.settings.table import DECLARED, Settings

__all__ = [
    "DECLARED",
    "RouterNode",
    "Row",
    "Secret",
    "Settings",
    "SettingsError",
    "any_matches",
    "describe",
    "load",
    "load_with_faults",
    "markdown",
]
