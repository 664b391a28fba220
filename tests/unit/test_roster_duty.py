"""The daemon's part in who may come in: a recorder's quota is told of from the configured per cent on."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.app.archive_configuration import load_archive_configuration
from recorderd.app.archive_daemon import curve_secret
from recorderd.app.archive_store import open_store
from recorderd.app.recorderctl import main as recorderctl
from recorderd.app.retention_parts import quiet_log
from recorderd.app.roster_duty import RosterDuty
from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from recorderd.core.clock import SystemClock
from recorderd.core.events import Ev
from tests.support.catalogues import add, entry


@pytest.mark.parametrize(("used_bytes", "event"), [(70, None), (71, Ev.QUOTA_NEAR), (101, Ev.QUOTA_EXCEEDED)])
def test_a_recorders_quota_is_near_from_the_configured_per_cent_on(
    tmp_path: Path, used_bytes: int, event: Ev | None
) -> None:
    assert recorderctl(["quickstart", str(tmp_path)]) == 0
    path = tmp_path / "archive.toml"
    path.write_text(path.read_text().replace("[retention]\n", "[retention]\nquota_warning_percent = 71\n"))
    configuration, clock = load_archive_configuration(path), SystemClock()
    (tmp_path / "archive").mkdir()
    catalogue = Catalogue(tmp_path / "archive" / CATALOGUE_NAME)
    add(catalogue, entry(1, recorder_id="recorder-1", size_bytes=used_bytes))
    log, audit = quiet_log(clock), AuditLog(catalogue.database, clock=clock)
    duty = RosterDuty(
        configuration,
        open_store(configuration),
        catalogue.database,
        curve_secret=curve_secret(configuration),
        clock=clock,
        log=log,
    )
    duty.roster.set_quota("recorder-1", 100, who=Actor(name="cli:root"), audit=audit)
    duty.tell_quotas()
    told = set(log.counters()) & {Ev.QUOTA_NEAR.value, Ev.QUOTA_EXCEEDED.value}
    assert told == ({event.value} if event else set())
    catalogue.close()
