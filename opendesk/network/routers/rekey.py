"""Sealing anew what an older key sealed, a few rows at a time: whenever it is interrupted, it is run again."""

from typing import Final

from attrs import frozen

from opendesk.network.routers.errors import CannotOpen
from opendesk.network.routers.sealing import Sealer, password_of
from opendesk.postgres.driver import TrioConnection

BATCH: Final = 100

_OLDER: Final = f"""
    SELECT id, password_sealed FROM routers
     WHERE id > %(after)s AND substring(password_sealed FOR length(%(head)s)) <> %(head)s ORDER BY id LIMIT {BATCH}
"""
# Not where it was changed meanwhile: what is there now was sealed with the key of whoever changed it.
_RESEAL: Final = """
    UPDATE routers r SET password_sealed = anew.sealed
      FROM unnest(%(ids)s::text[], %(before)s::bytea[], %(sealed)s::bytea[]) AS anew (id, before, sealed)
     WHERE r.id = anew.id AND r.password_sealed = anew.before
"""


@frozen
class Rekeyed:
    """How many were sealed anew, and whose password none of the keys opens: those are as they were."""

    resealed: int
    unopened: tuple[str, ...]


async def rekey(conn: TrioConnection, sealer: Sealer) -> Rekeyed:
    """Raise SealingUnavailable without a key."""
    resealed, unopened, after = 0, [], ""
    while rows := await conn.fetch(_OLDER, {"after": after, "head": sealer.current_head}):
        anew: list[tuple[str, bytes, bytes]] = []
        for router_id, sealed in rows:
            about = password_of(router_id)
            try:
                anew.append((router_id, sealed, sealer.seal(sealer.open(sealed, about=about), about=about)))
            except CannotOpen:
                unopened.append(router_id)
        ids, before, fresh = ([row[column] for row in anew] for column in range(3))
        resealed += await conn.run(_RESEAL, {"ids": ids, "before": before, "sealed": fresh})
        after = rows[-1][0]
    return Rekeyed(resealed, tuple(unopened))
