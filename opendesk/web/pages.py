"""Lists: newest first, a page at a time, with an opaque cursor."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Protocol, TypeVar
from uuid import UUID

from attrs import frozen
from msgspec import Meta

from opendesk.errors import FieldFault, ValidationFailed

Limit = Annotated[int, Meta(ge=1, le=100, description="how many at most")]
Cursor = Annotated[str, Meta(max_length=64, description="`nextCursor` of the page before")]

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
        """Items with a smaller id are on this page. Raise ValidationFailed for a cursor that isn't ours."""
        if self.cursor is None:
            return _AFTER_ALL
        try:
            return UUID(bytes=urlsafe_b64decode(self.cursor + "=="))
        except (ValueError, binascii.Error):
            fault = FieldFault("/cursor", "is not a cursor of this API")
            raise ValidationFailed("the cursor is not one of this API", errors=[fault]) from None

    @property
    def wanted(self) -> int:
        """One more than asked for tells whether there is another page."""
        return self.limit + 1


@frozen
class Page(Generic[T]):
    items: tuple[T, ...]
    next_cursor: str | None


def page(found: Sequence[T], query: PageQuery) -> Page[Any]:
    """Cut what was found with `query.wanted` to a page."""
    items = tuple(found[: query.limit])
    more = len(found) > query.limit
    return Page(items, urlsafe_b64encode(items[-1].id.bytes).decode().rstrip("=") if more else None)
