"""What a router says no with: categories and texts as routers have them. Failures have no category."""

from typing import Final

MISSING: Final = 0
ARGUMENT: Final = 1
INTERRUPTED: Final = 2
SCRIPT: Final = 3


class Refused(Exception):
    """The router's answer is a trap."""

    def __init__(self, category: int | None, message: str) -> None:
        super().__init__(category, message)
        self.category = category
        self.message = message


def no_such_command() -> Refused:
    return Refused(MISSING, "no such command")


def missing(argument: str) -> Refused:
    return Refused(MISSING, f"missing ={argument}=")


def unknown_parameter(name: str) -> Refused:
    return Refused(None, f"unknown parameter {name}")


def no_match(argument: str) -> Refused:
    return Refused(ARGUMENT, f"input does not match any value of {argument}")


def invalid(argument: str) -> Refused:
    return Refused(ARGUMENT, f"invalid value for argument {argument}")


def expects(argument: str, what: str) -> Refused:
    return Refused(ARGUMENT, f"value of {argument} expects {what}")


def out_of_range(argument: str, low: str, high: str) -> Refused:
    return Refused(ARGUMENT, f"value of {argument} out of range ({low}..{high})")


def failure(why: str) -> Refused:
    return Refused(None, f"failure: {why}")


def not_permitted() -> Refused:
    return Refused(None, "not enough permissions (9)")


def login_refused() -> Refused:
    return Refused(None, "invalid user name or password (6)")
