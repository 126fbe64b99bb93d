"""What the backend may answer instead. Apart from its client, which imports httpx: a daemon without a backend needs none."""

from typing import Literal


class NotFetched(Exception):
    """No events could be had. `outcome`: `failed` (it may be well the next time), or `refused` (what it answered is not what the contract says)."""

    def __init__(self, outcome: Literal["failed", "refused"], why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


class NotTaken(Exception):
    """The backend didn't take an ACK, or didn't say so. `status` is that of its answer, if there was one."""

    def __init__(self, why: str, status: int | None = None) -> None:
        super().__init__(why)
        self.status = status
