"""What keeps an archive in order, for the HTTP interface: the functions that the commands call, as jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from recorderd.app.archive_configuration import CONTROL_NAME, ArchiveConfiguration
from recorderd.app.archive_deliver import deliver_now, deliveries_table, sections_of
from recorderd.app.archive_mirror import copy_now, mirror_of, mirror_table
from recorderd.app.archive_reindex import hold_alone, make_anew
from recorderd.app.archive_retention import sweep_now
from recorderd.app.archive_scrub import read_now, scrub_table, scrubber_of
from recorderd.app.archive_stamps import renew_now
from recorderd.app.control import ask
from recorderd.app.fsck import audit_table, check_everything
from recorderd.app.put_off import look_at_power
from recorderd.app.retention_parts import RetentionParts
from recorderd.archive.jobs import Telling, Work
from recorderd.archive.web.desk import Order

TOLD_MAX: Final = 1000  # findings, renewals and the like in one job's result
_FILE: Final = "archive.toml"
_WORDS: Final = {
    Work.SWEEP: "the sweep",
    Work.RENEW: "the renewal of time stamps",
    Work.DELIVER: "a delivery",
    Work.SCRUB: "the scrub",
}  # what waits for power


class WebUpkeep:
    """The upkeep of one archive (``web.desk.Upkeep``)."""

    def __init__(self, configuration: ArchiveConfiguration, parts: RetentionParts) -> None:
        self._configuration = configuration
        self._parts = parts
        self._works: dict[Work, Callable[[Order, Telling], dict[str, Any]]] = {
            Work.FSCK: self._fsck,
            Work.REINDEX: self._reindex,
            Work.SWEEP: self._sweep,
            Work.RENEW: self._renew,
            Work.MIRROR: self._copy,
            Work.DELIVER: self._deliver,
            Work.SCRUB: self._read,
        }

    def check(self, work: Work, order: Order) -> None:
        """See that a work can be begun.

        Errors: PutOff, AlreadyRunning, NotConfigured.
        """
        if work in _WORDS:
            look_at_power(self._configuration, work=_WORDS[work])
        if work is Work.REINDEX:
            hold_alone(self._configuration).close()
        elif work is Work.MIRROR:
            mirror_of(self._parts, config=_FILE)
        elif work is Work.DELIVER:
            sections_of(self._configuration, order.route or None, config=_FILE)

    def run(self, work: Work, order: Order, telling: Telling) -> dict[str, Any]:
        """Do it.

        Thread: one at a time of each kind of work.
        Errors: JobStopped, and whatever the work may fail of.
        """
        return self._works[work](order, telling)

    def mirror(self) -> dict[str, Any]:
        """Tell of the off-site copy.

        Errors: NotConfigured without [mirror].
        """
        table = mirror_table(mirror_of(self._parts, config=_FILE))
        return table | {"not_copied": table["not_copied"][:TOLD_MAX]}

    def deliveries(self, *, limit: int, failed_only: bool) -> list[dict[str, Any]]:
        """Tell of each route; of none where there is none."""
        sections = self._configuration.deliveries
        return deliveries_table(self._parts, sections, limit=limit, failed_only=failed_only)

    def scrub(self) -> dict[str, Any]:
        """Tell of the newest round, and what differs."""
        table = scrub_table(scrubber_of(self._parts))
        return table | {"found": table["found"][:TOLD_MAX]}

    def intake(self) -> dict[str, Any]:
        """Tell what the daemon of this front end takes.

        Errors: ControlUnavailable.
        """
        intake: dict[str, Any] = self._ask({"command": "status"}).get("intake", {})
        return intake

    def drain(self, *, on: bool, reason: str) -> dict[str, Any]:
        """Let that daemon take nothing new, or take it again.

        Errors: ControlUnavailable.
        """
        return self._ask({"command": "drain", "on": on, "reason": reason})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return ask(self._configuration.archive.run_dir / CONTROL_NAME, request)

    # --- the works -----------------------------------------------------------------------------------

    def _fsck(self, order: Order, telling: Telling) -> dict[str, Any]:
        audit = check_everything(self._configuration, is_deep=order.deep, working=telling.cutting)
        return audit_table(audit, most=TOLD_MAX) | {"findings": len(audit.troubles)}

    def _reindex(self, order: Order, telling: Telling) -> dict[str, Any]:
        told = make_anew(self._configuration, order.who, working=telling.cutting)
        left_out = [{"path": path, "reason": reason} for path, reason in told.left_out[:TOLD_MAX]]
        return {
            "rows": told.rows,
            "tombstones": told.tombstones,
            "terms": told.terms,
            "reissued": told.reissued[:TOLD_MAX],
            "left_out": left_out,
        }

    def _sweep(self, order: Order, telling: Telling) -> dict[str, Any]:
        def put_off() -> str:
            return "it was stopped" if telling.stopped() else ""

        return asdict(sweep_now(self._parts, order.who, working=telling.working, put_off=put_off))

    def _renew(self, order: Order, telling: Telling) -> dict[str, Any]:
        counts, rows = Counter[str](), list[dict[str, str]]()
        for done in renew_now(self._configuration, days=order.days, working=telling.cutting):
            counts["left" if done.stamp is None else "renewed"] += 1
            if len(rows) < TOLD_MAX:
                rows.append({"path": done.path, "stamp": str(done.stamp or ""), "problem": done.problem})
        return {"renewed": counts["renewed"], "left": counts["left"], "stamps": rows}

    def _copy(self, _order: Order, telling: Telling) -> dict[str, Any]:
        mirror = mirror_of(self._parts, config=_FILE)
        copy_now(self._parts, mirror, working=telling.working, stopped=telling.stopped)
        return self.mirror()

    def _deliver(self, order: Order, telling: Telling) -> dict[str, Any]:
        sections = sections_of(self._configuration, order.route or None, config=_FILE)
        deliver_now(self._parts, sections, order.who, working=telling.working, stopped=telling.stopped)
        table = deliveries_table(self._parts, sections, limit=TOLD_MAX, failed_only=True)
        return {"routes": table}

    def _read(self, _order: Order, telling: Telling) -> dict[str, Any]:
        scrubber = scrubber_of(self._parts)
        read_now(self._parts, scrubber, working=telling.working, stopped=telling.stopped)
        return self.scrub()
