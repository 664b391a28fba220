"""`recorder-archive audit` and fsck as an operator uses them, beside a running archive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from recorderd.app.archive import main
from recorderd.archive.audit_log import AuditFilter
from recorderd.archive.catalogue import CATALOGUE_NAME
from tests.support.audit_logs import forge
from tests.support.bundles import Loopback
from tests.support.house import run_program
from tests.support.programs import Programs
from tests.support.web_archive import WebArchive


def audit(loopback: Loopback, *arguments: str, code: int = 0) -> str:
    done = run_program("archive", "audit", *arguments, "--config", loopback.archive_toml, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_a_forged_row_is_named_by_audit_verify_and_by_fsck(tmp_path: Path) -> None:
    loopback, programs = Loopback(tmp_path), Programs(tmp_path)
    try:
        archive = programs.archive(loopback.archive_toml)
        archive.wait_for("audited", "what=archive_started")
        archive.wait_for("audit_head_stated", "number=1")
        assert archive.stop() == 0
        assert "what=archive_stopped" in archive.text()
    finally:
        programs.end()
    rows = json.loads(audit(loopback, "list", "--json"))
    words = [row["what"] for row in rows if not row["what"].startswith("retention_")]
    assert words == ["audit_listed", "archive_stopped", "archive_started"]
    assert rows[0]["who"].startswith("cli:")
    assert "verified" in audit(loopback, "verify")
    lines = [json.loads(line) for line in audit(loopback, "export").splitlines()]
    numbers = [line["number"] for line in lines if "number" in line]
    assert numbers == list(range(1, len(rows) + 2))  # the export is one more
    assert [line["head"] for line in lines if "head" in line] == [1, 2]

    forge(loopback.data_dir / CATALOGUE_NAME, "UPDATE audit SET who = 'account:bob' WHERE number = 2")
    told = json.loads(audit(loopback, "verify", "--json", code=65))
    assert {finding["subject"] for finding in told["findings"]} == {"audit row 2"}
    done = run_program("archive", "fsck", "--config", loopback.archive_toml, check=False)
    assert done.returncode == 65
    assert "audit row 2: audit_log: was changed" in done.stdout


def test_who_exports_a_recording_stands_in_the_log_and_before_its_first_octet(tmp_path: Path) -> None:
    archive = WebArchive(tmp_path / "house")
    given, gone = archive.record(), archive.record()
    shutil.rmtree(archive.desk.store.root / gone.path)
    for entry in (given, gone):
        out = tmp_path / "out" / entry.id
        main(["export", "--config", str(archive.loopback.archive_toml), entry.id, "--out", str(out)])
        (row,) = archive.desk.audit_log.rows(AuditFilter(subject=entry.id))
        assert (row.what, row.outcome, row.detail) == ("recording_exported", "done", f"to {out}")
        assert row.who.startswith("cli:")
