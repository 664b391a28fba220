"""Real upsd and real apcupsd as the programs ask them: login, TLS, stale data, several UPSes."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recorderd.app.power import PowerDuty
from recorderd.app.power_configuration import PowerSection, UpsSection
from recorderd.app.service import Service
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.conditions import Power, PowerState
from recorderd.core.errors import UpsSilent
from recorderd.core.events import EventLog
from recorderd.policy.power import PowerLimits
from recorderd.power.sources import NisSource, NutServer, NutSource, UpsSource
from recorderd.power.watch import PollPace, PowerWatch
from tests.support import apcupsd
from tests.support.programs import wait_until
from tests.support.ups import PASSWORD, USER, NssAuthority, Nut


@pytest.fixture
def event_log() -> EventLog:
    return EventLog(logger=logging.getLogger("test.power"), clock=SystemClock())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> NssAuthority:
    return NssAuthority(tmp_path_factory.mktemp("tls") / "nss")


@pytest.fixture(scope="module")
def nut(tmp_path_factory: pytest.TempPathFactory, authority: NssAuthority) -> Iterator[Nut]:
    with Nut(tmp_path_factory.mktemp("nut"), ("cellar", "rack"), extra=authority.upsd_conf) as nut:
        yield nut


@pytest.fixture
def ask(nut: Nut) -> Iterator[Callable[..., tuple[NutSource, list[str]]]]:
    """Make sources at the server; each with the list of what was refused."""
    sources: list[NutSource] = []

    def source(**server: object) -> tuple[NutSource, list[str]]:
        refused: list[str] = []
        known = {"host": "127.0.0.1", "port": nut.port, "ups": "rack", **server}
        sources.append(NutSource(NutServer(**known), on_login_refused=refused.append))  # type: ignore[arg-type]
        return sources[-1], refused

    yield source
    for source_ in sources:
        source_.close(leaves=True)


def test_a_ups_says_how_it_is_without_a_login(ask: Callable[..., tuple[NutSource, list[str]]]) -> None:
    source, _ = ask()
    reading = source.read()
    assert reading.words == {"OL", "CHRG"}
    assert (reading.runtime_s, reading.charge_percent) == (1800, 100)


def test_as_configured_we_are_logged_in_over_tls_for_as_long_as_a_shutdown_shall_wait(
    nut: Nut, authority: NssAuthority, tmp_path: Path
) -> None:
    (tmp_path / "ups.secret").write_text(PASSWORD + "\n")
    (tmp_path / "ups.secret").chmod(0o600)
    section = PowerSection(
        ups=(
            UpsSection(
                name="rack",
                port=nut.port,
                ups="rack",
                user=USER,
                password_file=tmp_path / "ups.secret",
                tls_ca_file=authority.ca_file,
                tls_name="ups.example",
            ),
        )
    )
    duty = PowerDuty(section, service=Service(program="test"), clock=SystemClock())
    duty.start()
    try:
        wait_until(lambda: duty.power.contact, what="heard of over TLS")
        assert (nut.logins("rack"), nut.logins("cellar")) == (1, 0)
        duty.release()
        wait_until(lambda: nut.logins("rack") == 0, what="logged out")
    finally:
        duty.stop()


@pytest.mark.parametrize("wrong", ["name", "authority"])
def test_a_server_without_a_good_certificate_is_not_believed_and_not_given_the_password(
    wrong: str,
    nut: Nut,
    authority: NssAuthority,
    ask: Callable[..., tuple[NutSource, list[str]]],
    tmp_path: Path,
) -> None:
    name = "other.example" if wrong == "name" else "ups.example"
    trusted = authority if wrong == "name" else NssAuthority(tmp_path / "other")
    source, _ = ask(
        user=USER, password=PASSWORD, tls=ssl.create_default_context(cafile=trusted.ca_file), tls_name=name
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        source.read()
    assert nut.logins("rack") == 0


def test_a_refused_login_is_told_and_the_ups_read_all_the_same(
    ask: Callable[..., tuple[NutSource, list[str]]],
) -> None:
    source, refused = ask(user=USER, password="wrong")
    assert "OL" in source.read().words
    assert refused == ["LOGIN: ACCESS-DENIED"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "not one UPS but: cellar, rack; name one"), ("attic", "UNKNOWN-UPS")],
)
def test_a_ups_that_is_not_there_is_named(
    name: str, reason: str, ask: Callable[..., tuple[NutSource, list[str]]]
) -> None:
    source, _ = ask(ups=name)
    with pytest.raises(UpsSilent, match=reason):
        source.read()


@pytest.mark.parametrize("first", [b"BEGIN LIST VAR rack\n", b"\x00\x09STATUS"])
def test_a_server_whose_answer_never_ends_is_given_up(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorderd.power.sources.WHOLE_ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(first)
                while True:
                    connection.sendall(b'VAR rack x "y"\n' if first[:1] == b"B" else b"")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        monkeypatch.setattr("recorderd.power.sources.ANSWER_S", 1.0)
        nut = NutSource(NutServer(host="127.0.0.1", port=port, ups="rack"), on_login_refused=print)
        source: UpsSource = nut if first[:1] == b"B" else NisSource(host="127.0.0.1", port=port)
        with pytest.raises(TimeoutError):
            source.read()


class Watched:
    """A watch with quick times over some sources."""

    def __init__(self, sources: dict[str, UpsSource], log: EventLog, *, needed: int = 1) -> None:
        limits = PowerLimits(
            needed=needed,
            battery_after_ns=NS_PER_S // 2,
            return_after_ns=NS_PER_S // 2,
            lost_low_after_ns=2 * NS_PER_S,
        )
        pace = PollPace(usual_s=1, anxious_s=1)
        self.watch = PowerWatch(sources, limits=limits, pace=pace, clock=SystemClock(), log=log)
        self.seen: list[Power] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self.watch.judge, args=(self._stop, self.seen.append)),
            *(threading.Thread(target=self.watch.ask, args=(name, self._stop)) for name in sources),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, state: PowerState) -> Power:
        """Wait until power comes to a state."""
        wait_until(lambda: self.watch.power.state is state, what=f"{state!r}, not {self.watch.power}")
        return self.watch.power


def test_of_two_supplies_one_may_fail(
    nut: Nut, ask: Callable[..., tuple[NutSource, list[str]]], event_log: EventLog
) -> None:
    sources: dict[str, UpsSource] = {name: ask(ups=name)[0] for name in nut.names}
    with Watched(sources, event_log) as watched:
        wait_until(lambda: watched.watch.power.contact, what="both heard of")
        nut.say("OB LB", ups="cellar", runtime_s=60)
        wait_until(lambda: watched.watch.describe()[0]["state"] == "low_battery", what="the cellar is low")
        assert watched.watch.power.state is PowerState.ON_LINE
        nut.say("OB", ups="rack", runtime_s=600)
        power = watched.wait(PowerState.ON_BATTERY)
        assert power.runtime_s == 600
        nut.say("OL CHRG", ups="cellar")
        nut.say("OL CHRG", ups="rack")
        watched.wait(PowerState.ON_LINE)
        assert [power.state for power in watched.seen] == [PowerState.ON_BATTERY, PowerState.ON_LINE]


def test_apcupsd_tells_of_a_cut_down_to_its_shutdown(tmp_path: Path, event_log: EventLog) -> None:
    with apcupsd.Apcupsd(tmp_path / "apc") as server:
        source = NisSource(host="127.0.0.1", port=server.port)
        with Watched({"rack": source}, event_log) as watched:
            wait_until(lambda: watched.watch.power.contact, what="apcupsd heard of")
            power = watched.watch.power
            assert (power.state, power.runtime_s, power.charge_percent) == (PowerState.ON_LINE, 2700, 100)
            server.say(apcupsd.ON_BATTERY, minutes_left=20, charge_percent=61.0)
            watched.wait(PowerState.ON_BATTERY)
            wait_until(lambda: watched.watch.power.runtime_s == 1200, what="its figures")
            assert watched.watch.power.charge_percent == 61
            server.say(apcupsd.BATTERY_LOW, minutes_left=2)  # below its MINUTES: it shuts down
            watched.wait(PowerState.FORCED_SHUTDOWN)
            assert PowerState.LOW_BATTERY in [power.state for power in watched.seen]
            assert "doshutdown" in server.did()
