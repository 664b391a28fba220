"""Recordings go to a customer's own server by SFTP: whole, once, to the pinned host, and the log says so."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import chain, repeat
from pathlib import Path

import pytest

from recorderd.app import delivery_duty
from recorderd.app.archive_configuration import load_archive_configuration
from recorderd.app.delivery_configuration import DeliverySection
from recorderd.app.delivery_duty import DeliveryDuty, next_delivery
from recorderd.app.retention_parts import retention_parts
from recorderd.archive import sftp
from recorderd.archive.audit_log import AuditFilter
from recorderd.archive.deliveries import Deliveries, Route
from recorderd.archive.folders import Folders
from recorderd.archive.sftp import Parcel, deliver
from recorderd.core.conditions import Power, PowerState
from recorderd.evidence.digest import sha256_file
from recorderd.policy.retention import RetentionClass
from tests.support.bundles import folder_digests
from tests.support.golden import FIRST, GOLDEN, IDS, RECORDER, SECOND, THIRD
from tests.support.odd_sftp_server import Oddity, OddSftpServer
from tests.support.programs import wait_until
from tests.support.retention import AT_ONCE, WHO, Archive
from tests.support.retention_house import RetentionHouse
from tests.support.sftp_server import SftpServer

LARGE_BYTES = 9_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SftpServer]:
    started = SftpServer(tmp_path / "customer")
    yield started
    started.stop()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    (tmp_path / "house").mkdir()
    return Archive(tmp_path / "house", AT_ONCE)


def deliveries_of(archive: Archive) -> Deliveries:
    return Deliveries(
        archive.store, archive.database, audit=archive.audit_log, clock=archive.clock, log=archive.log
    )


def there(server: SftpServer, name: str) -> Path:
    return server.there / "2026" / "11" / "23" / RECORDER / name


def test_everything_arrives_whole_and_once_and_the_log_says_so(server: SftpServer, archive: Archive) -> None:
    route, deliveries = Route(name="customer", server=server.settings()), deliveries_of(archive)
    assert deliveries.behind(route) == 3
    told = deliveries.run(route, WHO)
    assert (told.delivered, told.failed, deliveries.behind(route)) == (3, 0, 0)
    for name in IDS:
        assert folder_digests(there(server, name)) == folder_digests(GOLDEN / name)
    log = deliveries.log_of(route, limit=10)
    assert [row.recording_id for row in log] == [THIRD, SECOND, FIRST]
    assert log[-1].files == folder_digests(GOLDEN / FIRST)
    assert len(archive.audit_log.rows(AuditFilter(what="recording_delivered"))) == 3
    assert deliveries.run(route, WHO).delivered == 0
    assert archive.audit().troubles == []


def test_only_what_a_route_is_for_goes_there(server: SftpServer, archive: Archive) -> None:
    deliveries = deliveries_of(archive)
    route = Route(name="customer", server=server.settings(), classes=("other",))
    assert deliveries.behind(route) == 0
    route = Route(name="customer", server=server.settings(), classes=("default",), recorders=(RECORDER,))
    assert deliveries.behind(route) == 3
    assert deliveries.behind(Route(name="x", server=server.settings(), recorders=("rec-2",))) == 0


def test_a_server_with_another_host_key_gets_nothing(server: SftpServer, archive: Archive) -> None:
    deliveries = deliveries_of(archive)
    route = Route(name="customer", server=server.settings(host_key=server.public("other")))
    with pytest.raises(OSError, match="HostKeyNotVerifiable"):
        deliveries.run(route, WHO)
    assert (list(server.there.iterdir()), deliveries.behind(route)) == ([], 3)


def test_a_key_that_is_not_known_there_is_told_and_stands_nowhere(
    server: SftpServer, archive: Archive
) -> None:
    route = Route(name="customer", server=server.settings(private_key=server.key("stranger")))
    with pytest.raises(OSError, match="PermissionDenied") as refused:
        deliveries_of(archive).run(route, WHO)
    assert "PRIVATE KEY" not in repr(refused.value) + repr(route)


def test_a_key_that_is_none_fails_its_route_and_not_the_archive(server: SftpServer, archive: Archive) -> None:
    route = Route(name="customer", server=server.settings(private_key="a line of prose"))
    with pytest.raises(OSError, match="a key cannot be used"):
        deliveries_of(archive).run(route, WHO)


def test_what_was_erased_is_not_delivered_and_the_log_forgets_names(
    server: SftpServer, archive: Archive
) -> None:
    route, deliveries = Route(name="customer", server=server.settings()), deliveries_of(archive)
    archive.erase(FIRST)
    assert deliveries.run(route, WHO).delivered == 2
    assert not there(server, FIRST).exists()
    archive.erase(SECOND)
    assert [row.files for row in deliveries.log_of(route, limit=9) if row.recording_id == SECOND] == [{}]


def test_what_is_not_as_it_was_signed_is_not_delivered_and_holds_up_nothing(
    server: SftpServer, archive: Archive
) -> None:
    path = archive.entry(FIRST).path
    audio = next(name for name in archive.names(FIRST) if name.endswith(".wav"))
    content = archive.store.group(path).read(audio)
    archive.store.published.put(path, audio, content[:-1] + b"?")
    route, deliveries = Route(name="customer", server=server.settings()), deliveries_of(archive)
    told = deliveries.run(route, WHO)
    assert (told.delivered, told.failed) == (2, 1)
    assert not there(server, FIRST).exists()
    (failed,) = deliveries.log_of(route, limit=9, failed_only=True)
    assert "is not what was signed for" in failed.reason
    archive.store.published.put(path, audio, content)
    assert deliveries.run(route, WHO).delivered == 1
    assert folder_digests(there(server, FIRST)) == folder_digests(GOLDEN / FIRST)


def test_what_has_the_name_there_is_not_overwritten(server: SftpServer, archive: Archive) -> None:
    there(server, FIRST).mkdir(parents=True)
    (there(server, FIRST) / "mine.txt").write_text("the customer's own")
    told = deliveries_of(archive).run(Route(name="customer", server=server.settings()), WHO)
    assert (told.delivered, told.failed) == (2, 1)
    assert [path.name for path in there(server, FIRST).iterdir()] == ["mine.txt"]


# --- a large file, and a link that breaks ---------------------------------------------------------


class Cut(Exception):
    """The program ends here."""


def large(tmp_path: Path) -> Parcel:
    folder = tmp_path / "large" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "a.wav").exists():
        (folder / "a.wav").write_bytes(os.urandom(LARGE_BYTES))
    group = Folders(tmp_path / "large").group("a")
    return Parcel(group=group, files={"a.wav": sha256_file(folder / "a.wav")[0]}, path="2026/a")


def send(server: SftpServer, parcel: Parcel, advance: Callable[[int], None]) -> list[str]:
    """Deliver one parcel; gives what came of it."""
    waiting, told = [parcel], list[str]()
    deliver(
        server.settings(),
        lambda: waiting.pop() if waiting else None,
        done=lambda _, reason: told.append(reason),
        advance=advance,
    )
    return told


def test_a_delivery_that_was_cut_goes_on_where_it_stood(server: SftpServer, tmp_path: Path) -> None:
    parcel, sent = large(tmp_path), list[int]()

    def cut(size_bytes: int) -> None:
        sent.append(size_bytes)
        if sum(sent) > LARGE_BYTES // 2:
            raise Cut

    with pytest.raises(Cut):
        send(server, parcel, cut)
    assert not (server.there / "2026" / "a").exists()
    assert 0 < (server.there / "2026" / "a.partial" / "a.wav").stat().st_size < LARGE_BYTES
    sent.clear()
    assert send(server, parcel, sent.append) == [""]
    assert 0 < sum(sent) < LARGE_BYTES * 3 // 5
    assert sha256_file(server.there / "2026" / "a" / "a.wav")[0] == parcel.files["a.wav"]
    assert not (server.there / "2026" / "a.partial").exists()


def test_a_part_that_is_another_there_is_begun_afresh(server: SftpServer, tmp_path: Path) -> None:
    partial, sent = server.there / "2026" / "a.partial", list[int]()
    partial.mkdir(parents=True)
    (partial / "a.wav").write_bytes(b"something else entirely")
    assert send(server, large(tmp_path), sent.append) == [""]
    assert sum(sent) == LARGE_BYTES


def test_a_server_that_goes_away_is_told_and_nothing_is_lost(server: SftpServer, tmp_path: Path) -> None:
    parcel, sent = large(tmp_path), list[int]()

    def away(size_bytes: int) -> None:
        sent.append(size_bytes)
        if sum(sent) > LARGE_BYTES // 3:
            server.stop()

    with pytest.raises(OSError, match="127"):
        send(server, parcel, away)
    server.start()
    assert send(server, parcel, sent.append) == [""]
    assert sha256_file(server.there / "2026" / "a" / "a.wav")[0] == parcel.files["a.wav"]


# --- a server that is not as it should be ---------------------------------------------------------


@pytest.mark.parametrize("oddity", [Oddity.SILENT_AT_ONCE, Oddity.SILENT_IN_A_WRITE])
def test_a_server_that_says_nothing_more_is_given_up_and_nothing_counts_as_delivered(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oddity: Oddity
) -> None:
    monkeypatch.setattr(sftp, "IDLE_S", 1)
    odd, deliveries, told = OddSftpServer(tmp_path / "odd", oddity), deliveries_of(archive), list[str]()
    route = Route(name="customer", server=odd.settings())

    def run() -> None:
        with pytest.raises(OSError, match=r"127\.0\.0\.1") as failed:
            deliveries.run(route, WHO)
        told.append(str(failed.value))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    odd.stop()
    assert "SFTPConnectionLost" in "".join(told)
    assert deliveries.behind(route) == 3


def test_a_refusal_without_a_reason_is_no_delivery(archive: Archive, tmp_path: Path) -> None:
    odd, deliveries = OddSftpServer(tmp_path / "odd", Oddity.WORDLESS), deliveries_of(archive)
    route = Route(name="customer", server=odd.settings())
    try:
        told = deliveries.run(route, WHO)
    finally:
        odd.stop()
    assert (told.delivered, told.failed, deliveries.behind(route)) == (0, 3, 3)
    assert {row.reason for row in deliveries.log_of(route, limit=9)} == {"SFTPFailure"}
    assert not archive.audit_log.rows(AuditFilter(what="recording_delivered"))


# --- as an operator does it -----------------------------------------------------------------------


def test_an_operator_delivers_and_reads_the_log(server: SftpServer, tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    forever = RetentionClass(name="default", maximum_days=36_000)
    house = RetentionHouse(tmp_path / "house", "", forever)
    settings = server.settings()
    house.configure(
        f"""
[[deliveries]]
name = "customer"
host = "127.0.0.1"
port = {settings.port}
user = "{settings.user}"
key_file = "{server.folder / "client"}"
host_key = "{settings.host_key}"
folder = "{settings.folder}"
"""
    )
    assert house.run("deliver", check=False).returncode == 75
    done = house.run("deliver", "--now")
    assert "customer: 0 not delivered" in done.stdout
    assert all(name in done.stdout for name in IDS)
    (told,) = json.loads(house.run("deliver", "--json").stdout)
    assert (told["behind"], len(told["log"])) == (0, 3)
    house.fsck()


def test_the_schedule_is_the_local_hour_or_every_few_minutes() -> None:
    key = "ssh-ed25519 AAAA"
    daily = DeliverySection(name="a", host="h", user="u", key_file=Path("k"), host_key=key, at="02:00")
    assert next_delivery(daily, datetime(2026, 11, 29, 1, 59)) == datetime(2026, 11, 29, 2, 0)
    assert next_delivery(daily, datetime(2026, 11, 29, 2, 0)) == datetime(2026, 11, 30, 2, 0)
    often = DeliverySection(name="a", host="h", user="u", key_file=Path("k"), host_key=key, every_minutes=15)
    assert next_delivery(often, datetime(2026, 11, 29, 2, 50)) == datetime(2026, 11, 29, 3, 5)


def test_a_clock_that_was_years_ahead_and_is_set_right_puts_no_delivery_off(
    server: SftpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_duty, "_LOOK_S", 0.01)
    (tmp_path / "house").mkdir()
    house = RetentionHouse(tmp_path / "house", "", AT_ONCE)
    settings, right = server.settings(), datetime(2026, 11, 29, 1, 59, 30)
    section = DeliverySection(
        name="customer",
        host=settings.host,
        port=settings.port,
        user=settings.user,
        folder=settings.folder,
        key_file=server.folder / "client",
        host_key=settings.host_key,
        at="02:00",
    )
    times = chain([right.replace(year=2036)] * 3, [right] * 3, repeat(right + timedelta(minutes=1)))
    duty = DeliveryDuty(
        (section,),
        retention_parts(load_archive_configuration(house.toml), log=house.archive.log),
        power=lambda: Power(state=PowerState.ON_LINE, reason="the mains are there"),
        log=house.archive.log,
        now=lambda: next(times),
    )
    stop = threading.Event()
    thread = threading.Thread(target=duty.loops()["deliver-customer"], args=(stop,))
    thread.start()
    try:
        wait_until(lambda: there(server, THIRD).exists(), what="it is delivered at its hour")
    finally:
        stop.set()
        thread.join(20)
