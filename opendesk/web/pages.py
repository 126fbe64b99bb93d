"""Lists: newest first, a page at a time, with an opaque cursor."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Protocol, TypeVar
from uuid import UUID

from attrs import frozen
from msgspec import Meta

Limit = Annotated[int, Meta(ge=1, le=100, description="how many at most", examples=[50])]
# 16 bytes in base64url without its padding.
Cursor = Annotated[
    str,
    Meta(pattern="^[A-Za-z0-9_-]{22}$", title="a cursor of this API", description="`nextCursor` of the page before"),
]

# Ids are time-ordered, so the last id of a page is where the next begins; this one comes after all.
_AFTER_ALL = UUID(int=2**128 - 1)


class HasId(Protocol):
    @property
    def id(self) -> UUID: ...


T = TypeVar("T", bound=HasId)


@frozen
class PageQuery:
    limit: Limit = 20
    cursor: Cursor | None = None

    @property
    def before(self) -> UUID:
        """Items with a smaller id are on this page."""
        return _AFTER_ALL if self.cursor is None else UUID(bytes=urlsafe_b64decode(self.cursor + "=="))

    @property
    def wanted(self) -> int:
        """One more than asked for tells whether there is another page."""
        return self.limit + 1


@frozen
class Page(Generic[T]):
    """Newest first. `nextCursor` is null on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None


def page(found: Sequence[T], query: PageQuery) -> Page[Any]:
    """Cut what was found with `query.wanted` to a page."""
    items = tuple(found[: query.limit])
    more = len(found) > query.limit
    return Page(items, urlsafe_b64encode(items[-1].id.bytes).decode().rstrip("=") if more else None)
