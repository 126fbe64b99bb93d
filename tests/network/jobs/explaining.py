"""How many rows a claim reads, as PostgreSQL counts them."""

from collections.abc import Mapping
import re
from uuid import uuid4

import psycopg

from opendesk.network.jobs.claiming import CLAIM

TYPES = {"lanes": "text[]", "rooms": "int[]", "limit": "int", "node": "uuid", "ttl_s": "float8"}
PLANS = ("force_custom_plan", "force_generic_plan")


def rows_claim_reads(sync: psycopg.Connection, open_lanes: Mapping[str, int], plan: str) -> float:
    """By the part of it that reads most. It claims them."""
    values = {
        "lanes": list(open_lanes),
        "rooms": list(open_lanes.values()),
        "limit": 100,
        "node": uuid4(),
        "ttl_s": 30.0,
    }
    statement, names = as_prepared(CLAIM)
    sync.execute("DEALLOCATE ALL")
    sync.execute(f"SET plan_cache_mode = {plan}".encode())
    sync.execute(f"PREPARE claim ({', '.join(TYPES[name] for name in names)}) AS {statement}".encode())
    parameters = psycopg.sql.SQL(", ").join([psycopg.sql.Literal(values[name]) for name in names])
    row = sync.execute(
        psycopg.sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE claim ({})").format(parameters)
    ).fetchone()
    assert row is not None
    return rows_read(row[0][0]["Plan"])


def as_prepared(statement: str) -> tuple[str, list[str]]:
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        names.append(match[1])
        return f"${len(names)}"

    return re.sub(r"%\((\w+)\)s", number, statement), names


def rows_read(plan: dict[str, object]) -> float:
    """By any part of it, those it threw away included."""
    loops, own = float(str(plan["Actual Loops"])), float(str(plan["Actual Rows"]))
    own += sum(float(str(value)) for name, value in plan.items() if name.startswith("Rows Removed"))
    children = plan.get("Plans", [])
    assert isinstance(children, list)
    return max([own * loops, *map(rows_read, children)])
