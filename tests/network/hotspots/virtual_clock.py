"""A database whose clock is set by hand: what it takes for now, whichever connection asks.

Only what the database's clock says is turned: who sleeps until something falls due is woken (jobs), or must look by itself.
"""

from typing import Final

from opendesk.network.jobs.table import CHANNEL
from opendesk.postgres.driver import TrioConnection

# Of this database alone: the catalog is a database's own. The server itself knows its clock by number, not by name.
_NAMES: Final = ("now", "clock_timestamp")
_INSTALL: Final = (
    "CREATE TABLE public.virtual_clock (ahead interval NOT NULL); INSERT INTO public.virtual_clock VALUES ('0')"
)
_REPLACE: Final = """
    ALTER FUNCTION pg_catalog.{name}() RENAME TO real_{name};
    CREATE FUNCTION pg_catalog.{name}() RETURNS timestamptz LANGUAGE sql {how}
        AS 'SELECT pg_catalog.real_{name}() + (SELECT ahead FROM public.virtual_clock)'
"""
# Defaults go by the function itself, whatever it is called.
_DEFAULTS: Final = """
    SELECT format('ALTER TABLE %I.%I ALTER COLUMN %I SET DEFAULT now()', n.nspname, c.relname, a.attname)
      FROM pg_attrdef d JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
           JOIN pg_class c ON c.oid = d.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'opendesk' AND pg_get_expr(d.adbin, d.adrelid) = 'real_now()'
"""


async def install(conn: TrioConnection) -> None:
    """Before anything else connects: plans that were made keep the clock that they were made with."""
    await conn.execute(_INSTALL)
    for name in _NAMES:
        how = "STABLE" if name == "now" else "VOLATILE"
        await conn.execute(_REPLACE.format(name=name, how=how).encode())
    for (statement,) in await conn.fetch(_DEFAULTS):
        await conn.execute(statement.encode())


async def turn(conn: TrioConnection, seconds: float) -> None:
    """Forward, or back if that is negative; whoever waits for jobs looks again."""
    await conn.run("UPDATE public.virtual_clock SET ahead = ahead + %s * interval '1 second'", (seconds,))
    await conn.run(f"SELECT pg_notify('{CHANNEL}', '')")
