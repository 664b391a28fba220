"""The audit log holds what was done, refuses to be changed, and shows what was changed all the same."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from recorderd.app.archive_audit import audit_findings
from recorderd.archive.audit_heads import AuditHeads
from recorderd.archive.audit_log import Actor, AuditFilter, AuditLog
from recorderd.archive.verdicts import Verdict
from recorderd.core.clock import SystemClock
from recorderd.core.errors import CatalogueFailed, SearchRefused
from recorderd.evidence.verify import TrustStore
from tests.support.audit_logs import ALICE, forge, open_log
from tests.support.bundles import make_signer


class Signed:
    """A log of five rows whose head was signed after the fourth."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.sqlite3"
        signer = make_signer(folder, "archive")
        self.trust = TrustStore.from_files([folder / "archive.cert.pem"])
        self.database, self.log = open_log(self.path, rows=2)
        self.heads = AuditHeads(
            self.database, self.log, archive_id="arc-1", signer=signer, clock=SystemClock()
        )
        self.heads.state("start")
        for number in (3, 4):
            self.log.note(ALICE, "recording_exported", f"rec-{number}")
        self.heads.state("hour")
        self.log.note(ALICE, "recording_erased", "rec-5", outcome="refused", reason="held")

    def findings(self) -> list[tuple[str, str]]:
        return [(one.subject, one.reason) for one in audit_findings(self.database, self.trust)]

    def rehash(self, first: int) -> list[str]:
        """Make the statements that give all rows from ``first`` on hashes that fit again."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            rows = [dict(row) for row in connection.execute("SELECT * FROM audit ORDER BY number")]
        statements, previous = [], rows[first - 2]["sha256"] if first > 1 else "0" * 64
        for row in rows[first - 1 :]:
            row["previous_sha256"] = previous
            del row["sha256"]
            text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            previous = hashlib.sha256(text.encode()).hexdigest()
            statements.append(
                f"UPDATE audit SET previous_sha256 = '{row['previous_sha256']}', sha256 = '{previous}' "
                f"WHERE number = {row['number']}"
            )
        return statements


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


def test_a_row_tells_who_did_what_to_what_from_where_and_why(tmp_path: Path) -> None:
    _, log = open_log(tmp_path / "a.sqlite3")
    log.note(
        ALICE, "recording_played", "rec-1", reason="complaint 17", outcome="refused", detail="restricted"
    )
    (row,) = log.rows()
    assert (row.number, row.who, row.address, row.what) == (
        1,
        "account:alice",
        "192.0.2.7",
        "recording_played",
    )
    assert (row.subject, row.reason, row.outcome, row.detail) == (
        "rec-1",
        "complaint 17",
        "refused",
        "restricted",
    )
    assert row.at.endswith("Z")


def test_rows_are_found_by_what_they_say(tmp_path: Path) -> None:
    _, log = open_log(tmp_path / "a.sqlite3", rows=5)
    log.note(Actor(name="cli:root"), "hold_added", "rec-2")
    assert [row.number for row in log.rows(AuditFilter(who="cli:root"))] == [6]
    assert [row.number for row in log.rows(AuditFilter(subject="rec-2"))] == [6, 2]
    assert [row.number for row in log.rows(AuditFilter(before_number=4), limit=2)] == [3, 2]
    assert log.rows(AuditFilter(since="2999-01-01")) == []
    day = log.rows(limit=1)[0].at[:10]
    assert len(log.rows(AuditFilter(since=day, until=day))) == len(log.rows())
    assert log.rows(AuditFilter(since="0001-01-01", until="9999-12-31")) == log.rows()
    with pytest.raises(SearchRefused, match="yesterday"):
        log.rows(AuditFilter(since="yesterday"))


def test_a_deed_that_is_rolled_back_leaves_no_row_and_no_gap(tmp_path: Path) -> None:
    database, log = open_log(tmp_path / "a.sqlite3", rows=1)
    with pytest.raises(RuntimeError), database.write() as connection:
        log.note(ALICE, "hold_added", "rec-1", connection=connection)
        raise RuntimeError("the deed failed")
    assert log.note(ALICE, "hold_added", "rec-1") == 2
    assert list(audit_findings(database, TrustStore([]))) == []


def test_whatever_text_comes_the_row_is_kept_and_its_hash_holds(tmp_path: Path) -> None:
    database, log = open_log(tmp_path / "a.sqlite3")
    for text in ("'; DROP TABLE audit; --", "\x00\x1b[31m\n", "\ud800", "é☎", "x" * 100_000):
        log.note(ALICE, "searched", text, reason=text, detail=text)
    rows = log.rows()
    assert len(rows) == 5
    assert all(len(row.reason) <= 500 for row in rows)
    assert list(audit_findings(database, TrustStore([]))) == []


def test_many_writers_at_once_leave_no_gap_and_no_double(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    open_log(path)

    def write(name: str) -> None:
        _, log = open_log(path)  # connections of its own, as another process has
        for number in range(10):
            log.note(Actor(name=name), "searched", str(number))

    threads = [threading.Thread(target=write, args=(f"cli:{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database, log = open_log(path)
    assert [row.number for row in log.after(0, limit=100)] == list(range(1, 41))
    assert list(audit_findings(database, TrustStore([]))) == []


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'x'", "DELETE FROM audit WHERE number = 1"])
def test_the_database_refuses_to_change_or_remove_rows(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "a.sqlite3"
    database, log = open_log(path, rows=2)
    with pytest.raises(CatalogueFailed, match="append-only"), database.write() as connection:
        connection.exec_driver_sql(statement)
    assert len(log.rows()) == 2


def test_an_honest_log_is_good(signed: Signed) -> None:
    assert signed.findings() == []


@pytest.mark.parametrize("column", ["at", "who", "address", "what", "subject", "reason", "outcome", "detail"])
def test_a_changed_row_is_named(signed: Signed, column: str) -> None:
    forge(signed.path, f"UPDATE audit SET {column} = 'forged' WHERE number = 3")
    assert ("audit row 3", "was changed: its hash is another") in signed.findings()


def test_a_changed_row_whose_hash_was_made_anew_is_found_by_the_next(signed: Signed) -> None:
    forge(signed.path, "UPDATE audit SET who = 'account:bob' WHERE number = 5")
    forge(signed.path, *signed.rehash(5))
    forge(signed.path, "UPDATE audit SET who = 'account:bob' WHERE number = 3")
    forge(signed.path, signed.rehash(3)[0])
    assert [subject for subject, _ in signed.findings()] == ["audit row 4"]


def test_a_log_that_was_written_anew_is_found_by_the_signed_head(signed: Signed) -> None:
    forge(signed.path, "UPDATE audit SET who = 'account:bob' WHERE number = 3")
    forge(signed.path, *signed.rehash(3))
    (finding,) = signed.findings()
    assert finding[0] == "audit row 4"
    assert finding[1].startswith("is not the row that head 2 signed for")


def test_a_removed_row_is_named(signed: Signed) -> None:
    forge(signed.path, "DELETE FROM audit WHERE number = 2")
    assert ("audit row 2", "is missing") in signed.findings()


def test_a_removed_tail_is_named_by_the_head_that_signed_for_it(signed: Signed) -> None:
    forge(signed.path, "DELETE FROM audit WHERE number >= 3")
    assert signed.findings() == [("audit rows 3 to 4", "are missing: head 2 signed for it")]


def test_a_log_without_any_row_left_is_found(signed: Signed) -> None:
    forge(signed.path, "DELETE FROM audit")
    assert signed.findings() == [("audit rows 1 to 4", "are missing: head 2 signed for it")]


def test_rows_in_another_order_are_named(signed: Signed) -> None:
    swap = "UPDATE audit SET number = {} WHERE number = {}"
    forge(signed.path, swap.format(99, 2), swap.format(2, 3), swap.format(3, 99))
    subjects = [subject for subject, _ in signed.findings()]
    assert {"audit row 2", "audit row 3"} <= set(subjects)


def test_a_removed_or_forged_head_is_named(signed: Signed) -> None:
    forge(signed.path, "DELETE FROM audit_heads WHERE number = 1")
    assert signed.findings() == [("audit head 2", "does not follow the head before")]


def test_a_head_by_another_key_counts_for_nothing(signed: Signed, tmp_path: Path) -> None:
    make_signer(tmp_path, "stranger")
    stranger = TrustStore.from_files([tmp_path / "stranger.cert.pem"])
    findings = list(audit_findings(signed.database, stranger))
    assert [finding.subject for finding in findings] == ["audit head 1", "audit head 2"]
    assert {finding.verdict for finding in findings} == {Verdict.UNKNOWN}


def test_a_head_is_signed_only_when_there_is_something_new(signed: Signed) -> None:
    assert signed.heads.state("hour") is not None
    assert signed.heads.state("hour") is None


def test_words_that_no_reader_could_search_are_a_mistake_of_the_program(tmp_path: Path) -> None:
    _, log = open_log(tmp_path / "a.sqlite3")
    for what, outcome in (("Played it", "done"), ("played", "perhaps")):
        with pytest.raises(ValueError, match="not for the audit log"):
            log.note(ALICE, what, "rec-1", outcome=outcome)
    assert isinstance(log, AuditLog)
    assert log.rows() == []
