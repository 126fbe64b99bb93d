"""What an order has, as its rules are told to people: no database, no routers, and time in whole minutes."""

from attrs import define, evolve, field

from opendesk.network.hotspots.place import Place


@define
class Had:
    place: Place
    duration: int | None
    trial: bool = False
    left: int | None = None  # once it was opened; before that it has all of its time
    ended: str | None = None
    had_time: bool = False  # before it was given more

    @property
    def is_opened(self) -> bool:
        return self.left is not None

    @property
    def is_live(self) -> bool:
        return self.ended is None and (self.left is None or self.left > 0 or self.duration is None)

    @property
    def is_over(self) -> bool:
        return self.duration is not None and self.left is not None and self.left <= 0


@define
class OrderModel:
    """Each asks and says whether it was given."""

    had: list[Had] = field(factory=list)

    @property
    def live(self) -> list[Had]:
        return [one for one in self.had if one.is_live]

    def trial(self, place: Place, duration: int) -> bool:
        """Joins what is there; else it is given to an order that has and had nothing."""
        if any(one.place == place for one in self.live):
            return True
        if any(one.ended is None or one.is_opened or one.had_time for one in self.had):
            return False
        self.had.append(Had(place, duration, trial=True))
        return True

    def paid(self, place: Place, duration: int | None) -> bool:
        here = next((one for one in self.had if one.place == place and one.ended is None), None)
        if here is not None and here.is_live and not here.trial:
            if here.duration is not None and (duration is None or duration > here.duration):
                self._begin_anew(here, duration)
            return True
        before = [one for one in self.had if self._is_spent(one, duration)]
        if not before:
            self._give(here, Had(place, duration))
            return True
        going_on = [one for one in before if one.ended == "revoked" and not one.is_over]
        if not going_on:
            return False
        last = max(going_on, key=lambda one: one.left or 0)
        self._give(here, evolve(last, place=place, ended=None))
        return True

    def _is_spent(self, one: Had, duration: int | None) -> bool:
        if one.trial or not one.is_opened or one.duration is None or duration is None or one.duration < duration:
            return False
        return one.is_over or one.ended == "revoked"

    def _give(self, here: Had | None, given: Had) -> None:
        """In the place of what is there: it is a trial, or over."""
        if here is not None:
            self.had.remove(here)
            given.had_time |= here.had_time or here.is_opened
        self.had.append(given)

    def _begin_anew(self, one: Had, duration: int | None) -> None:
        one.had_time |= one.is_opened
        one.duration, one.left = duration, None

    def open(self, place: Place) -> None:
        for one in self.live:
            if one.place == place and not one.is_opened:
                one.left = one.duration if one.duration is not None else 1

    def pass_time(self, minutes: int) -> None:
        for one in self.had:
            if one.left is not None and one.duration is not None:
                one.left -= minutes

    def revoke(self, place: Place) -> None:
        for one in self.had:
            if one.place == place and one.ended is None:
                one.ended = "expired" if one.is_over else "revoked"

    def release(self, mac: str) -> None:
        for one in self.had:
            if one.trial and one.place.mac == mac and one.ended is None:
                one.ended = "expired" if one.is_over else "released"
