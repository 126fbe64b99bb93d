"""When unknown peers may be taken off the interface again: a registry that was read wrong, or is another's, must not cost all of them in a minute."""

from typing import Final

from opendesk.postgres.driver import TrioConnection

# Of two that ask at the same time the second waits for the first, and is refused.
_CLAIM: Final = """
    INSERT INTO tunnel_removals AS r DEFAULT VALUES
        ON CONFLICT (is_only_one) DO UPDATE SET removed_at = now() WHERE r.removed_at <= now() - make_interval(secs => %(apart_s)s)
    RETURNING true
"""


async def claim(conn: TrioConnection, apart_s: float) -> bool:
    """Before they are removed: whether the last ones went so long ago, by whatever daemon or command. From now on these are the last."""
    return await conn.fetch_one(_CLAIM, {"apart_s": float(apart_s)}) is not None
