"""The short way from a query to its rows: what a connection keeps so that a statement need not make it again.

psycopg makes a cursor, a transformer, and the conversions of every column and parameter for each statement, which
costs more than the statement's own work. Here the converted query and the conversions stay with the connection.
"""

from collections.abc import Callable
from functools import lru_cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import errors as e
from psycopg._preparing import Prepare
from psycopg._queries import PostgresQuery
from psycopg.abc import Params, PQGen
from psycopg.adapt import Transformer
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

if TYPE_CHECKING:
    from psycopg import AsyncConnection

T = TypeVar("T")

# Converted queries kept a connection; psycopg keeps as many prepared ones. More than a program's texts; queries put
# together at run time start the cache anew instead of filling the memory.
MAX_QUERIES = 100


class Statements:
    """Runs one statement at a time for a connection whose lock the caller holds, and loads its rows."""

    __slots__ = ("_conn", "_queries", "_tx")

    def __init__(self, conn: "AsyncConnection[Any]") -> None:
        self._conn = conn
        self._tx: Any = Transformer(conn)  # psycopg's C class and its protocol differ in small ways
        self._queries: dict[str | bytes, PostgresQuery] = {}

    def run_gen(self, query: str | bytes, params: Params | None) -> PQGen[PGresult]:
        """Send the query, prepared when psycopg's rules say so, and return its one result."""
        conn, pgconn, prepared = self._conn, self._conn.pgconn, self._conn._prepared  # noqa: SLF001 - psycopg's own way
        conn._check_connection_ok()  # noqa: SLF001
        if not conn.autocommit:
            yield from conn._start_query()  # noqa: SLF001
        bound = self._bind(query, params)
        prepare, name = prepared.get(bound)
        if prepare is Prepare.NO:
            types, formats = bound.types, bound.formats
            pgconn.send_query_params(bound.query, bound.params, param_types=types, param_formats=formats)
        else:
            if prepare is Prepare.SHOULD:
                pgconn.send_prepare(name, bound.query, param_types=bound.types)
                self._only((yield from execute(pgconn)))
            pgconn.send_query_prepared(name, bound.params, param_formats=bound.formats)
        bound.params = None  # sent; a batch of thousands would stay until this connection's next one
        key = prepared.maybe_add_to_cache(bound, prepare, name)
        results = yield from execute(pgconn)
        if key is not None:
            prepared.validate(key, prepare, name, results)
        result = self._only(results)
        yield from prepared.maintain_gen(conn)
        return result

    def load(self, result: PGresult) -> list[tuple[Any, ...]]:
        """The rows of a result, as tuples."""
        try:
            self._tx.set_pgresult(result)
            rows: list[tuple[Any, ...]] = self._tx.load_rows(0, result.ntuples, tuple)
        finally:
            self._tx.set_pgresult(None)  # else the last result would stay in memory
        return rows

    def _bind(self, query: str | bytes, params: Params | None) -> PostgresQuery:
        bound = self._queries.get(query)
        if bound is not None and params is not None:
            bound.dump(params)
            return bound
        bound = PostgresQuery(self._tx)
        bound.convert(query, params)
        if params is not None:  # without parameters there is nothing to convert, and % means itself
            if len(self._queries) >= MAX_QUERIES:
                self._queries.clear()
            self._queries[query] = bound
        return bound

    def _only(self, results: list[PGresult]) -> PGresult:
        if len(results) != 1:
            raise e.InternalError(f"got {len(results)} results from one statement")
        (result,) = results
        if result.status == ExecStatus.FATAL_ERROR:
            raise e.error_from_result(result, encoding=self._conn.pgconn._encoding)  # noqa: SLF001
        if result.status not in _WITH_ROWS_OR_WITHOUT:
            raise e.ProgrammingError(f"{ExecStatus(result.status).name}: COPY needs cursor.copy()")
        return result


_WITH_ROWS_OR_WITHOUT = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY})


def make_rows(result: PGresult, rows: list[tuple[Any, ...]], row: Callable[..., T]) -> list[T]:
    """Rows as what `row` makes of their columns, passed by name."""
    make = _maker(row, tuple([result.fname(column) for column in range(result.nfields)]))
    return [make(values) for values in rows]


@lru_cache(MAX_QUERIES)
def _maker(row: Callable[..., T], columns: tuple[bytes | None, ...]) -> Callable[[tuple[Any, ...]], T]:
    names = [(column or b"").decode() for column in columns]
    if names == _parameters(row)[: len(names)]:
        return lambda values: row(*values)  # the same, in half the time
    return lambda values: row(**dict(zip(names, values, strict=True)))


def _parameters(row: Callable[..., Any]) -> list[str]:
    try:
        parameters = signature(row).parameters.values()
    except ValueError:  # a builtin that doesn't tell, such as dict
        return []
    return [parameter.name for parameter in parameters if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD]
