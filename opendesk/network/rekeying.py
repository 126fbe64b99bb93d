"""Sealing anew what an older key sealed, a few rows at a time: whenever it is interrupted, it is run again."""

from collections.abc import Callable
from typing import Final

from attrs import frozen

from opendesk.network.routers.errors import CannotOpen
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.network.tunnels.registry.device import preshared_key_of
from opendesk.postgres.driver import TrioConnection

BATCH: Final = 100


@frozen
class _Column:
    """A column of sealed secrets, in those rows of its table that have an id each."""

    table: str
    name: str
    about: Callable[[str], str]
    rows: str = "true"

    @property
    def older(self) -> str:
        return f"""
            SELECT id, {self.name} FROM {self.table}
             WHERE {self.rows} AND id > %(after)s AND substring({self.name} FOR length(%(head)s)) <> %(head)s
             ORDER BY id LIMIT {BATCH}
        """

    @property
    def reseal(self) -> str:
        """Not where it was changed meanwhile: what is there now was sealed with the key of whoever changed it."""
        return f"""
            UPDATE {self.table} r SET {self.name} = anew.sealed
              FROM unnest(%(ids)s::text[], %(before)s::bytea[], %(sealed)s::bytea[]) AS anew (id, before, sealed)
             WHERE {self.rows} AND r.id = anew.id AND r.{self.name} = anew.before
        """


_PASSWORDS: Final = _Column("routers", "password_sealed", password_of)
_DEVICES: Final = tuple(
    _Column("tunnel_devices", name, about, rows)
    for name, about in (
        ("preshared_key_sealed", preshared_key_of),
        ("next_preshared_key_sealed", preshared_key_of),
        ("next_password_sealed", password_of),
    )
    for rows in ("NOT dry_run", "dry_run")
)


@frozen
class Rekeyed:
    """How many were sealed anew, and whose secrets none of the keys opens: those are as they were."""

    resealed: int
    unopened: tuple[str, ...]
    unopened_devices: tuple[str, ...] = ()


async def rekey(conn: TrioConnection, sealer: Sealer) -> Rekeyed:
    """Routers' passwords, and devices' preshared keys and the passwords that wait with next keys. Raise SealingUnavailable without a key."""
    passwords, routers = await _rekey(conn, sealer, _PASSWORDS)
    of_devices = [await _rekey(conn, sealer, column) for column in _DEVICES]
    devices = {device for _, unopened in of_devices for device in unopened}
    return Rekeyed(passwords + sum(count for count, _ in of_devices), tuple(routers), tuple(sorted(devices)))


async def _rekey(conn: TrioConnection, sealer: Sealer, column: _Column) -> tuple[int, list[str]]:
    resealed, unopened, after = 0, [], ""
    while rows := await conn.fetch(column.older, {"after": after, "head": sealer.current_head}):
        anew: list[tuple[str, bytes, bytes]] = []
        for row_id, sealed in rows:
            about = column.about(row_id)
            try:
                anew.append((row_id, sealed, sealer.seal(sealer.open(sealed, about=about), about=about)))
            except CannotOpen:
                unopened.append(row_id)
        ids, before, fresh = ([row[index] for row in anew] for index in range(3))
        resealed += await conn.run(column.reseal, {"ids": ids, "before": before, "sealed": fresh})
        after = rows[-1][0]
    return resealed, unopened
