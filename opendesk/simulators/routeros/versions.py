"""What differs between versions of RouterOS, as far as a driver meets it."""

from typing import Final

from attrs import frozen

Number = tuple[int, int]


@frozen
class Version:
    text: str
    number: Number

    @classmethod
    def read(cls, text: str) -> "Version":
        major, minor, *_ = text.split(".")
        return cls(text, (int(major), int(minor)))

    @property
    def says_empty(self) -> bool:
        """`!empty` before the `!done` of a print that found nothing."""
        return self.number >= EMPTY_SINCE

    @property
    def item_gone(self) -> str:
        return "no such item" if self.number >= BARE_TEXTS_SINCE else "no such item (4)"

    @property
    def writes_bytes_for_people(self) -> bool:
        """`42.3MiB` where later ones give the number."""
        return self.number < BARE_TEXTS_SINCE


EMPTY_SINCE: Final = (7, 18)
PEER_NAMES_SINCE: Final = (7, 15)
RESPONDER_SINCE: Final = (7, 17)
# Somewhere between the two versions whose commands we know, 7.12 and 7.24.
BARE_TEXTS_SINCE: Final = (7, 18)
