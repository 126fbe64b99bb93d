"""Which failures of a router are news: one slow moment, or one connection that is lost, fails everybody who is in the midst of it."""

import math

from attrs import define

from opendesk.network.routeros.errors import TimedOut
from opendesk.network.routers.link import Api


@define
class Blame:
    """Of one router. Times are of whoever asks."""

    _lost: Api | None = None  # the connection whose loss was counted
    _answered: Api | None = None  # the last that did
    _counted_s: float = -math.inf  # when a time-out was last counted

    def answered(self, api: Api) -> None:
        """A connection was made, and somebody speaks at its other end."""
        self._answered = api

    def is_old(self, api: Api) -> bool:
        """A newer one is well: what becomes of this one says nothing any more."""
        return self._answered is not api

    def is_news(self, error: Exception, api: Api, began_s: float, now_s: float) -> bool:
        """Of what began at `began_s`: time-outs that overlap are one failure, and so is all that was lost with one connection."""
        if isinstance(error, TimedOut):
            if began_s < self._counted_s:
                return False
            self._counted_s = now_s
            return True
        was_blamed, self._lost = self._lost is api, api
        return not was_blamed
