"""A request to the console: who it is from, whether it is from one of our own pages, and what its form says."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from attrs import frozen

from opendesk.errors import BodyTooLarge, Forbidden, OpenDeskError
from opendesk.web.endpoint import WebRequest

# A log-in's password has at most 1,000 characters, of up to 12 bytes each in a form.
FORM_MAX_BYTES: Final = 16 * 1024
_FORM_FIELDS: Final = 8
_FORM: Final = "application/x-www-form-urlencoded"


class NotFromHere(Forbidden):
    """The form did not come from the console."""


class BadForm(OpenDeskError):
    """The form can't be read."""

    status, code = 400, "BAD_REQUEST"


@frozen
class Session:
    """An admin who is logged in."""

    user_id: UUID
    email: str
    token_version: int
    token: str


@frozen
class Visit:
    """`session` is None for who isn't logged in; `ids` are of the path."""

    request: WebRequest
    session: Session | None
    ids: Mapping[str, str]

    @property
    def who(self) -> Session:
        """Only where a log-in is wanted."""
        assert self.session is not None
        return self.session

    def query(self, name: str) -> str:
        return dict(self.request.query or ()).get(name, "")


def form_of(request: WebRequest) -> dict[str, str]:
    """Raise NotFromHere, BodyTooLarge, BadForm."""
    if not is_from_here(request):
        raise NotFromHere("another site sent it, and nothing was done")
    if len(request.body) > FORM_MAX_BYTES:
        raise BodyTooLarge
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind != _FORM:
            raise BadForm(f"a form of the kind {_FORM} is wanted")
        text = request.body.decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS))
    except ValueError:
        raise BadForm("it is no form, or has too many fields") from None


def is_from_here(request: WebRequest) -> bool:
    """What browsers say of where a form was; who says nothing of it has the token of the form to show all the same.

    Hosts are compared, not schemes: a proxy that isn't in TRUSTED_PROXIES hides that the browser speaks TLS.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or (bool(request.host) and urlsplit(origin).netloc.lower() == request.host.lower())


def is_from_elsewhere(request: WebRequest) -> bool:
    """Whether somebody followed a link at another site: browsers keep strict cookies back then."""
    return request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}
