"""A recorder joins an archive by a one-time code, delivers, and is put out again."""

from __future__ import annotations

import json
import re
import socket
import threading
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from recorderd.app.archive import main as archive_main
from recorderd.app.flush import main as flush_main
from recorderd.app.recorderctl import main as recorderctl_main
from recorderd.archive.audit_log import AuditFilter, AuditLog
from recorderd.archive.database import Database
from recorderd.core.clock import SystemClock
from recorderd.evidence.enrolment_code import EnrolmentCode, request_mac
from recorderd.flush.curve import make_keypair
from recorderd.wire.enrolment import (
    JoinRequest,
    Kind,
    encode_message,
    encode_request,
    parse_head,
    parse_refusal,
)
from tests.support.bundles import Loopback
from tests.support.free_ports import free_port
from tests.support.in_process import in_process
from tests.support.link import archived
from tests.support.programs import Programs, wait_until
from tests.support.relay import Relay

pytestmark = pytest.mark.timeout(120)


class Town:
    """An archive with an enrolment port, and a recorder that it does not know."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loopback = Loopback(folder / "set-up")
        self.join_port = free_port()
        self.archive_toml = self.loopback.archive_toml
        self.known = (
            self.archive_toml.read_text() + f'[enrolment]\nbind = "tcp://127.0.0.1:{self.join_port}"\n'
        )
        self.archive_toml.write_text(re.sub(r"\[recorders.*?\n(?=\[enrol)", "", self.known, flags=re.DOTALL))
        text = self.loopback.recorder_toml.read_text()
        self.recorder_toml = self.loopback.recorder_toml
        self.recorder_toml.write_text(text[: text.index("[archive]")])
        self.recorder_toml.chmod(0o640)

    def code(self, name: str = "rec-1", *more: str) -> str:
        """Make a code as the archive's operator does."""
        told = in_process(archive_main, "enroll", "--config", self.archive_toml, name, "--json", *more)
        return str(json.loads(told.partition("\n")[2])["code"])

    def join(self, code: str, *more: str, port: int = 0) -> str:
        """Join as the recorder's operator does; what is printed."""
        address = f"127.0.0.1:{port or self.join_port}"
        return in_process(recorderctl_main, "join", address, code, "--config", self.recorder_toml, *more)

    def listed(self) -> list[dict[str, object]]:
        """What `recorder-archive recorder list --json` says."""
        rows: list[dict[str, object]] = json.loads(self.operate("list", "--json").partition("\n")[2])
        return rows

    def operate(self, part: str, *arguments: str) -> str:
        """Run one of the parts of `recorder-archive recorder`."""
        return in_process(archive_main, "recorder", part, "--config", self.archive_toml, *arguments)

    def audited(self) -> list[tuple[str, str, str]]:
        """What the audit log says of recorders, oldest first."""
        database = Database.of_file(self.loopback.data_dir / "catalogue.sqlite3", read_only=True)
        rows = AuditLog(database, clock=SystemClock()).rows(AuditFilter(), limit=1000)
        database.close()
        return [
            (row.what, row.subject, row.outcome)
            for row in reversed(rows)
            if row.what.startswith(("recorder_", "enrolment_"))
        ]


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_a_recorder_joins_delivers_and_is_put_out(town: Town, programs: Programs) -> None:
    loopback = town.loopback
    archive = programs.archive(town.archive_toml)
    code = town.code()
    told = town.join(code.lower().replace("-", " "))
    assert told.startswith("exit 0") and "rec-1 is known at arc-1" in told
    written = tomllib.loads(town.recorder_toml.read_text())["archive"]
    assert written["endpoint"] == f"tcp://127.0.0.1:{loopback.port}"
    assert written["server_public_key"] == loopback.archive_public
    secret_file = town.recorder_toml.parent / written["secret_key_file"]
    assert (secret_file.stat().st_mode & 0o777, town.recorder_toml.stat().st_mode & 0o777) == (0o600, 0o640)
    assert code not in (archive.text() + town.recorder_toml.read_text())
    first = loopback.record(2)
    town.recorder_toml.write_text(town.recorder_toml.read_text() + "heartbeat_s = 1\nretry_s = 1\n")
    flush = programs.flush(town.recorder_toml)
    wait_until(lambda: archived(loopback) == sorted(first), what="what the recorder had is archived")
    (row,) = town.listed()
    assert (row["recorder_id"], row["state"], row["source"]) == ("rec-1", "in", "enrolled")
    assert (row["connected"], row["recordings"]) == (True, 2)

    town.operate("revoke", "rec-1", "--reason", "stolen")
    archive.wait_for("recorder_revoked")
    flush.wait_for("link_refused", timeout_s=40)
    (late,) = loopback.record(1)
    archive.wait_for("client_refused", "subject=127.0.0.1", "is not listed", timeout_s=40)
    assert archived(loopback) == sorted(first)
    (row,) = town.listed()
    assert (row["state"], row["reason"], row["connected"]) == ("revoked", "stolen", False)
    checked = in_process(archive_main, "fsck", "--config", town.archive_toml)
    assert checked.startswith("exit 0"), checked  # what it delivered still verifies

    again = town.code()
    town.recorder_toml.write_text(town.recorder_toml.read_text().partition("[archive]")[0])
    assert town.join(again).startswith("exit 0")
    flush.stop()
    programs.flush(town.recorder_toml, name="flush-2")
    wait_until(lambda: late in archived(loopback), what="who joined again delivers again", timeout_s=60)
    assert town.audited() == [
        ("enrolment_begun", "rec-1", "done"),
        ("recorder_enrolled", "rec-1", "done"),
        ("recorder_revoked", "rec-1", "done"),
        ("enrolment_begun", "rec-1", "done"),
        ("recorder_enrolled", "rec-1", "done"),
    ]


def test_who_is_revoked_in_the_middle_of_a_recording_sends_no_more_of_it(
    town: Town, programs: Programs
) -> None:
    loopback = town.loopback
    archive = programs.archive(town.archive_toml)
    assert town.join(town.code()).startswith("exit 0")
    joined = town.recorder_toml.read_text() + "heartbeat_s = 1\nretry_s = 1\nchunk_bytes = 16384\n"
    (recording_id,) = loopback.record(1, duration_s=60)
    incoming = loopback.data_dir / "incoming"
    with Relay(loopback.port, bytes_per_s=100_000) as relay:
        town.recorder_toml.write_text(joined.replace(str(loopback.port), str(relay.port)))
        flush = programs.flush(town.recorder_toml)

        def taken_bytes() -> int:
            return sum(path.stat().st_size for path in incoming.rglob("*") if path.is_file())

        wait_until(lambda: taken_bytes() > 0, what="some of it to come")
        town.operate("revoke", "rec-1", "--reason", "stolen")
        archive.wait_for("client_refused", "subject=rec-1", "not listed any more", timeout_s=40)
        taken = taken_bytes()
        flush.wait_for("link_refused", "not listed any more", timeout_s=60)
        assert taken_bytes() == taken < 900_000
        assert archived(loopback) == []
        flush.stop()
    town.recorder_toml.write_text(town.recorder_toml.read_text().partition("[archive]")[0])
    assert town.join(town.code()).startswith("exit 0")
    programs.flush(town.recorder_toml, name="flush-2")
    wait_until(lambda: archived(loopback) == [recording_id], what="who joined again ends it", timeout_s=60)


def test_a_code_that_waits_for_who_is_revoked_counts_no_more(town: Town, programs: Programs) -> None:
    programs.archive(town.archive_toml)
    before = town.recorder_toml.read_text()
    assert town.join(town.code()).startswith("exit 0")
    waiting, other = town.code(), town.code("rec-2")
    town.operate("revoke", "rec-1", "--reason", "stolen")
    town.recorder_toml.write_text(before)
    refused = town.join(waiting)
    assert refused.startswith("exit 77") and "not known here" in refused
    assert [row["state"] for row in town.listed()] == ["revoked"]
    assert "code is for rec-2" in town.join(other)


def test_a_code_counts_once_and_for_its_recorder_only(town: Town, programs: Programs) -> None:
    programs.archive(town.archive_toml)
    assert "code is for rec-2" in town.join(town.code("rec-2"))
    code = town.code()
    before = town.recorder_toml.read_text()
    assert town.join(code).startswith("exit 0")
    town.recorder_toml.write_text(before)
    assert town.join(code).startswith("exit 0"), "who lost the answer asks again with the same key"
    town.recorder_toml.write_text(before)
    (town.recorder_toml.parent / "archive-curve.secret").unlink()
    refused = town.join(code)
    assert refused.startswith("exit 77") and "was used" in refused
    assert town.recorder_toml.read_text() == before
    assert town.join(town.code()).startswith("exit 0")
    assert "archive: is there already" in town.join(town.code())


def test_a_recorder_of_archive_toml_is_put_out_by_name_too(town: Town, programs: Programs) -> None:
    loopback = town.loopback
    loopback.write()
    programs.archive(town.archive_toml)
    flush = programs.flush(loopback.recorder_toml)
    flush.wait_for("link_up")
    town.operate("quota", "rec-1", "1000")
    (row,) = town.listed()
    assert (row["source"], row["state"], row["quota_bytes"]) == ("archive.toml", "in", 1000)
    town.operate("revoke", "rec-1", "--reason", "sold")
    flush.wait_for("link_refused", timeout_s=40)
    assert "no recorder nobody" in town.operate("revoke", "nobody", "--reason", "x")


# --- who has no code ---------------------------------------------------------------------------------------


def ask(port: int, request: bytes, mac: bytes) -> tuple[Kind, bytes]:
    """Say something to the enrolment port."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream, stream.makefile("rb") as answer:
        stream.sendall(encode_message(Kind.REQUEST, request, mac))
        kind, size_bytes = parse_head(answer.read(5))
        return kind, answer.read(size_bytes)


def test_guesses_make_a_code_worthless(town: Town, programs: Programs) -> None:
    archive = programs.archive(town.archive_toml)
    code = EnrolmentCode.read(town.code())
    certificate = (town.loopback.root / "stranger.cert.pem").read_text()
    request = encode_request(
        JoinRequest(
            code_id=code.code_id,
            recorder_id="rec-1",
            curve_public_key=make_keypair()[0],
            certificates_pem=certificate,
        )
    )
    for number in range(5):
        kind, content = ask(town.join_port, request, request_mac(bytes([number]) * 32, request))
        assert kind is Kind.REFUSAL and "not known here" in parse_refusal(content)
    refused = town.join(code.text())
    assert refused.startswith("exit 77") and "not known here" in refused
    archive.wait_for("enrolment_refused", "does not know the code")
    assert town.listed() == []
    assert town.audited().count(("recorder_enrolled", "rec-1", "refused")) == 5


def test_an_archive_that_does_not_know_the_code_is_not_believed(town: Town, programs: Programs) -> None:
    programs.archive(town.archive_toml)
    code, before = town.code(), town.recorder_toml.read_text()
    with socket.create_server(("127.0.0.1", 0)) as between:

        def put_in_another_key() -> None:
            asker, _ = between.accept()
            with asker, socket.create_connection(("127.0.0.1", town.join_port)) as beyond:
                beyond.sendall(asker.recv(1 << 16))
                answer = bytearray()
                while piece := beyond.recv(1 << 16):
                    answer += piece
                at = answer.index(town.loopback.archive_public.encode())
                answer[at : at + 40] = make_keypair()[0].encode()
                asker.sendall(answer)

        thread = threading.Thread(target=put_in_another_key, daemon=True)
        thread.start()
        refused = town.join(code, port=between.getsockname()[1])
        thread.join(30)
    assert refused.startswith("exit 77") and "does not know the code" in refused
    assert town.recorder_toml.read_text() == before


def test_nobody_joins_with_the_key_of_another(town: Town, programs: Programs) -> None:
    programs.archive(town.archive_toml)
    assert town.join(town.code()).startswith("exit 0")
    text = town.recorder_toml.read_text().partition("[archive]")[0]
    town.recorder_toml.write_text(text.replace('id = "rec-1"', 'id = "rec-2"'))
    refused = town.join(town.code("rec-2"))
    assert refused.startswith("exit 77") and "another recorder has this CURVE key" in refused
    assert [row["recorder_id"] for row in town.listed()] == ["rec-1"]


def test_bad_messages_cost_nothing_but_a_line_in_the_log(town: Town, programs: Programs) -> None:
    archive = programs.archive(town.archive_toml)
    for message in (
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"Q\xff\xff\xff\xff",
        b"Q\x00\x00\x00\x30" + b"x" * 48,
        b"A\0\0\0\0",
    ):
        with socket.create_connection(("127.0.0.1", town.join_port), timeout=20) as stream:
            stream.sendall(message)
            stream.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                stream.recv(1 << 16)
    assert town.join(town.code()).startswith("exit 0")
    archive.wait_for("enrolment_refused")


def test_a_further_archive_is_added_by_name(town: Town, programs: Programs, tmp_path: Path) -> None:
    programs.archive(town.archive_toml)
    assert town.join(town.code()).startswith("exit 0")
    second = Town(tmp_path / "second")
    programs.archive(second.archive_toml, name="archive-2")
    code = second.code()
    assert town.join(code, "--name", "other-town", port=second.join_port).startswith("exit 0")
    table = tomllib.loads(town.recorder_toml.read_text())
    assert [row["name"] for row in table["archives"]] == ["other-town"]
    checked = in_process(flush_main, "check-config", "--config", town.recorder_toml)
    assert "right for recorderd-flush" in checked


def test_a_code_whose_time_is_over_is_refused(town: Town, programs: Programs) -> None:
    programs.archive(town.archive_toml)
    code = town.code("rec-1", "--minutes", "1")
    database = Database.of_file(town.loopback.data_dir / "catalogue.sqlite3")
    with database.write() as connection:  # a minute is long for a test
        connection.exec_driver_sql("UPDATE enrolments SET expires_utc_s = expires_utc_s - 60")
    database.close()
    refused = town.join(code)
    assert refused.startswith("exit 77") and "its time is over" in refused


def test_without_the_port_no_code_is_made(town: Town) -> None:
    text = town.archive_toml.read_text()
    town.archive_toml.write_text(text[: text.index("[enrolment]")])
    refused = in_process(archive_main, "enroll", "rec-1", "--config", town.archive_toml)
    assert refused.startswith("exit 78") and "add [enrolment]" in refused


def test_a_recorder_that_is_gone_without_a_word_is_not_listed_as_connected(
    town: Town, programs: Programs
) -> None:
    programs.archive(town.archive_toml)
    assert town.join(town.code()).startswith("exit 0")
    flush = programs.flush(town.recorder_toml)

    def connected() -> bool:
        (row,) = town.listed()
        return bool(row["connected"])

    wait_until(connected, what="the recorder comes in")
    flush.kill()
    wait_until(lambda: not connected(), what="the archive notices that it is gone")
