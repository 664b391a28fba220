"""recorder-archive deliver: tells what was delivered to customers' own servers, or delivers now."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.markup import escape
from rich.table import Column, Table

from recorderd.app.archive_actor import command_line_actor
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.counts import count_of
from recorderd.app.delivery_configuration import DeliverySection
from recorderd.app.delivery_duty import route_of
from recorderd.app.output import Output
from recorderd.app.progress import SlowWork
from recorderd.app.put_off import look_at_power
from recorderd.app.retention_parts import RetentionParts, quiet_log, retention_parts
from recorderd.archive.audit_log import Actor
from recorderd.archive.deliveries import Deliveries
from recorderd.archive.jobs import Working
from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import NotConfigured

EXIT_LEFT: Final = 75
_ROWS: Final = 50
_PLAIN_WIDTH: Final = 200


def add_deliver(commands: Any) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "deliver", help="tell what was delivered to a customer's server; with --now, deliver"
    )
    command.add_argument("--config", type=Path, required=True, metavar="F", help="archive.toml")
    command.add_argument("--route", metavar="NAME", help="this one; else all")
    command.add_argument("--now", action="store_true", help="deliver now what is not delivered")
    command.add_argument("--failed", action="store_true", help="only what could not be delivered")
    command.add_argument("--limit", type=count_of, default=_ROWS, metavar="N", help="so many rows at most")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=_deliver)


def _deliver(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Deliver or tell; 0 when everything is delivered, 75 when something is left.

    Errors: NotConfigured without such a route; OSError when a server cannot be reached, or is another.
    """
    sections = sections_of(configuration, arguments.route, config=arguments.config)
    parts = retention_parts(configuration)
    if arguments.now:
        look_at_power(configuration, work="a delivery")
        deliver_now(parts, sections, command_line_actor())
    told = deliveries_table(parts, sections, limit=arguments.limit, failed_only=arguments.failed)
    if arguments.json:
        print(json.dumps(told, indent=2))
    else:
        _show(told)
    return EXIT_LEFT if any(route["behind"] for route in told) else 0


def sections_of(
    configuration: ArchiveConfiguration, route: str | None, *, config: object
) -> list[DeliverySection]:
    """Give one route, or all.

    Errors: NotConfigured when there is none, or none of that name.
    """
    sections = [row for row in configuration.deliveries if route in (None, row.name)]
    if not sections:
        what = f"deliveries called {route}" if route else "deliveries"
        raise NotConfigured(path=config, what=what, remedy="add [[deliveries]]")
    return sections


def deliver_now(
    parts: RetentionParts,
    sections: Iterable[DeliverySection],
    who: Actor,
    *,
    working: Working = SlowWork,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Deliver what is not delivered, route by route.

    Errors: CatalogueFailed, KeyUnusable; OSError when a server cannot be reached, or is another.
    """
    deliveries = _deliveries(parts)
    for section in sections:
        route = route_of(section)
        parts.sweeper.enrol()
        with working(f"delivering to {route.name}") as work:
            deliveries.run(route, who, advance=work.advance, stopped=stopped)


def deliveries_table(
    parts: RetentionParts, sections: Iterable[DeliverySection], *, limit: int, failed_only: bool
) -> list[dict[str, Any]]:
    """Make the table of what was delivered, and what was not, for programs.

    Errors: CatalogueFailed, KeyUnusable.
    """
    deliveries, told = _deliveries(parts), []
    for section in sections:
        route = route_of(section)
        rows = deliveries.log_of(route, limit=limit, failed_only=failed_only)
        behind = deliveries.behind(route)
        told.append({"route": route.name, "behind": behind, "log": [asdict(row) for row in rows]})
    return told


def _deliveries(parts: RetentionParts) -> Deliveries:
    log = quiet_log(parts.clock)
    return Deliveries(parts.store, parts.database, audit=parts.audit, clock=parts.clock, log=log)


def _show(told: list[dict[str, Any]]) -> None:
    table = Table("route", Column("recording", no_wrap=True), "delivered", "tries", "where, or why not")
    for route in told:
        for row in route["log"]:
            at = utc_text(row["delivered_utc_s"] * NS_PER_S) if row["delivered_utc_s"] else "not yet"
            what = escape(row["reason"] or row["path"])
            table.add_row(route["route"], row["recording_id"], at, str(row["tries"]), what)
    if table.rows:
        Output(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
    for route in told:
        print(f"{route['route']}: {route['behind']} not delivered")
