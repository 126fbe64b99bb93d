"""What can go wrong between a router and us. All are `RouterOsError`."""

from typing import Final

# Trap categories, as RouterOS numbers them.
MISSING: Final = 0
ARGUMENT: Final = 1
INTERRUPTED: Final = 2


class RouterOsError(Exception):
    """Something went wrong between a router and us."""


class Trap(RouterOsError):
    """The router's answer is that it won't: it is well, and so is the connection.

    Texts differ between versions of RouterOS: show `message` to people and decide on what a `print` says instead. A command may be
    trapped more than once: `message` holds all texts, `category` is the first that was told, if any was.
    """

    def __init__(self, category: int | None, message: str) -> None:
        super().__init__(category, message)
        self.category = category
        self.message = message

    def __str__(self) -> str:
        return self.message or "the router gave no reason"

    @property
    def is_missing(self) -> bool:
        """The item or the command isn't there, by the category: older versions leave it out."""
        return self.category == MISSING

    @property
    def is_interrupted(self) -> bool:
        """The command was cancelled."""
        return self.category == INTERRUPTED


class LoginRefused(RouterOsError):
    """The router doesn't accept this user and password, or asks for a login that isn't allowed."""


class Fatal(RouterOsError):
    """The router said why it ends the connection, and ended it."""


class ProtocolError(RouterOsError):
    """What came isn't RouterOS API, or exceeds a limit. The connection can't be used further."""


class TooMuch(RouterOsError):
    """A limit of the client was reached: the rows of one answer, or the commands at once."""


class Unreachable(RouterOsError):
    """The router can't be connected to, isn't the one that was pinned, or is gone since."""


class TimedOut(RouterOsError):
    """The router didn't answer in time. Whether it did what it was told isn't known.

    It no longer is at it: it has said so, or the connection was dropped.
    """
