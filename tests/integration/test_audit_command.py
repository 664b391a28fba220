"""`recorder-archive audit` and fsck as an operator uses them, beside a running archive."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorderd.app.archive import main
from recorderd.archive.audit_check import judge_audit_log
from recorderd.archive.audit_heads import AuditHeads
from recorderd.archive.audit_log import AuditFilter, AuditLog, AuditRow
from recorderd.archive.catalogue import CATALOGUE_NAME
from recorderd.evidence.verify import TrustStore
from tests.support.audit_logs import forge
from tests.support.bundles import Loopback
from tests.support.house import run_program
from tests.support.programs import Programs
from tests.support.web_archive import ROOT, WebArchive


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


def test_an_export_beside_a_running_archive_is_no_log_whose_end_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = WebArchive(tmp_path)
    desk, cause = archive.desk, "hour"
    heads = AuditHeads(
        desk.database, desk.audit_log, archive_id="arc-1", signer=archive.loopback.archive_signer,
        clock=desk.clock,
    )  # fmt: skip
    desk.audit_log.note(ROOT, "archive_started", "arc-1")
    heads.state(cause)
    read = AuditLog.all

    def read_while_somebody_works(log: AuditLog) -> Iterator[AuditRow]:
        yield from read(log)
        desk.audit_log.note(ROOT, "recording_played", "a recording")
        heads.state(cause)

    monkeypatch.setattr(AuditLog, "all", read_while_somebody_works)
    main(["audit", "export", "--config", str(archive.loopback.archive_toml)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if "number" in line]
    signed = [(line["head"], base64.b64decode(line["document"])) for line in lines if "head" in line]
    trust = TrustStore.from_files([archive.loopback.archive_toml.parent / "archive.cert.pem"])
    assert len(signed) == 1
    assert list(judge_audit_log(rows, signed, trust)) == []
