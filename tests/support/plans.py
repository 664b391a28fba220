"""How a database would go about a query, and how much of its rows it looks at."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Select


def planned(connection: Connection, query: Select[Any] | None) -> str:
    """Ask for the plan; PostgreSQL as if there were many rows."""
    assert query is not None
    if connection.dialect.name == "postgresql":
        for way in ("seqscan", "bitmapscan", "sort"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
    how = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    words = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{how} {words}"))


def looked_at(connection: Connection, query: Select[Any]) -> int:
    """Tell how much is looked at for a query: PostgreSQL's rows, or the steps of SQLite's machine."""
    words = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
    if connection.dialect.name == "postgresql":
        told = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {words}"))
        removed = sum(int(count) for count in re.findall(r"Rows Removed by Filter: (\d+)", told))
        return removed + len(connection.execute(query).all())
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    driver: Any = connection.connection.driver_connection
    driver.set_progress_handler(count, 1)
    try:
        connection.exec_driver_sql(words).all()
    finally:
        driver.set_progress_handler(None, 1)
    return steps
