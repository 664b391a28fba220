"""What time does to a session: at its instant, once, and to no other."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from dsp.shapes import I16
from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.events import EventLog
from recorderd.core.ids import DialogId, StreamId
from recorderd.core.messages import (
    CallDescription,
    Codec,
    ControlAction,
    Encoding,
    Origin,
    RecordingChanged,
    RecordingState,
    RecordMessage,
)
from recorderd.core.terms import Consent, Mode, RecordingTerms
from recorderd.policy.modes import begin
from recorderd.sip.choosing import Pace
from recorderd.sip.conductor import Conductor
from recorderd.sip.sessions import Session, SessionBook
from recorderd.sip.speech import Speech
from recorderd.sip.streams import Line
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.tap.speaker import Speaker

PCMA = Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8000)


class Hall:
    """A conductor with a clock in our hand; ``said`` lists what was said."""

    def __init__(self) -> None:
        self.now_ns = NS_PER_S
        self.told: list[RecordMessage] = []
        self.said: list[tuple[str, ...]] = []
        self.log = EventLog(logger=logging.getLogger("conductor"), clock=self)
        ports = PortPool(address="127.0.0.1", port_min=22_300, port_max=22_399, receive_buffer_bytes=1 << 15)
        self.tap = Tap(ports=ports, max_streams=2, clock=self, log=self.log)
        self.speaker = Speaker(clock=self, log=self.log, on_ended=lambda _: None)
        self.conductor = Conductor(
            tell=self.told.append,
            lines_of=lambda session: [line for known, line in self._lines if known is session],
            signal=lambda _: None,
            speech=Speech(prompts=self, speaker=self.speaker, tap=self.tap, log=self.log),
            clock=self,
            log=self.log,
        )
        self._book = SessionBook()
        self._count = 0
        self._lines: list[tuple[Session, Line]] = []

    def mono_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns

    def sequence(self, names: Sequence[str], *, language: str, rate_hz: int) -> I16:
        self.said.append(tuple(names))
        return np.zeros(rate_hz // 10, dtype=np.int16)

    def session(self, terms: RecordingTerms) -> Session:
        """Begin a session."""
        self._count += 1
        session = self._book.begin(
            key=f"k{self._count}", description=CallDescription(call_id="c", origin=Origin.LEG), terms=terms,
            conduct=begin(terms), parties=frozenset(), at_mono_ns=self.now_ns, at_utc_ns=self.now_ns,
        )  # fmt: skip
        self._book.enter(session, DialogId(f"d{self._count}"))
        self.conductor.began(session, at_mono_ns=self.now_ns)
        return session

    def line(self, session: Session) -> StreamId:
        """Open a line that carries audio back."""
        (dialog,) = session.dialogs
        line = Line(
            stream=session.name_stream(dialog), port=4000, codecs=(PCMA,), peer=("127.0.0.1", 9),
            pace=Pace(clock_rate_hz=8000, octets_per_tick=1), direction="sendrecv",
        )  # fmt: skip
        self._lines.append((session, line))
        self.conductor.line_opened(session, line)
        return line.stream

    def known(self, stream: StreamId) -> Line:
        """Give a line as it is."""
        return next(line for _, line in self._lines if line.stream == stream)

    def moves(self, stream: StreamId, *, peer: tuple[str, int] | None) -> None:
        """Let what we send on a line go elsewhere."""
        self._lines = [
            (session, replace(line, peer=peer) if line.stream == stream else line)
            for session, line in self._lines
        ]

    def holds(self, session: Session, stream: StreamId, *, held: bool) -> None:
        """Let a line be held, or taken up."""
        self._lines = [
            (whose, replace(line, held=held, is_still=held) if line.stream == stream else line)
            for whose, line in self._lines
        ]
        self.conductor.line_changed(session, self.known(stream))

    def wait(self, ms: int) -> list[tuple[ControlAction, RecordingState]]:
        """Let time pass in polls of 20 ms; say what the recording was told meanwhile."""
        before = len(self.told)
        for _ in range(0, ms, 20):
            self.now_ns += 20 * NS_PER_MS
            self.conductor.tick()
        changes = [message for message in self.told[before:] if isinstance(message, RecordingChanged)]
        return [(change.action, change.state) for change in changes]


@pytest.fixture
def hall() -> Iterator[Hall]:
    made = Hall()
    yield made
    made.tap.close()


def test_consent_that_does_not_come_in_time_is_missed_once(hall: Hall) -> None:
    terms = RecordingTerms(consent=Consent.REQUIRED, consent_wait_s=5, mode=Mode.ALWAYS)
    asked, agreed = hall.session(terms), hall.session(terms)
    assert hall.wait(4_900) == []
    hall.conductor.request(agreed, ControlAction.CONSENT, via="header")
    assert hall.wait(200) == [(ControlAction.CONSENT_TIMED_OUT, RecordingState.ERASED)]
    assert hall.wait(60_000) == []
    assert (asked.conduct.state, agreed.conduct.state) == (RecordingState.ERASED, RecordingState.ON)


def test_a_pause_that_lasts_is_warned_of_once_and_the_next_one_anew(hall: Hall) -> None:
    session = hall.session(RecordingTerms(mode=Mode.ALWAYS_PAUSABLE, pause_limit_s=10))
    warned = [(ControlAction.PAUSE_TIMED_OUT, RecordingState.PAUSED)]
    for _ in range(2):
        hall.conductor.request(session, ControlAction.PAUSE, via="control_socket")
        assert hall.wait(9_900) == []
        assert hall.wait(60_000) == warned
        hall.conductor.request(session, ControlAction.RESUME, via="control_socket")
        assert hall.wait(20_000) == []


def test_a_pause_that_ended_in_time_is_not_warned_of_but_a_later_one_is(hall: Hall) -> None:
    session = hall.session(RecordingTerms(mode=Mode.ALWAYS_PAUSABLE, pause_limit_s=10))
    hall.conductor.request(session, ControlAction.PAUSE, via="control_socket")
    hall.wait(5_000)
    hall.conductor.request(session, ControlAction.RESUME, via="control_socket")
    hall.wait(2_000)
    hall.conductor.request(session, ControlAction.PAUSE, via="control_socket")
    assert hall.wait(9_900) == []
    assert hall.wait(200) == [(ControlAction.PAUSE_TIMED_OUT, RecordingState.PAUSED)]


def test_each_session_beeps_at_its_own_pace_until_it_is_over(hall: Hall) -> None:
    quick = hall.session(RecordingTerms(beep_every_s=2))
    hall.line(quick)
    hall.line(hall.session(RecordingTerms(beep_every_s=5)))
    hall.wait(10_100)
    assert len(hall.said) == 5 + 2
    hall.conductor.forget(quick.session)
    hall.wait(10_000)
    assert len(hall.said) == 5 + 2 + 2


def test_recording_begins_when_the_prompt_was_heard_on_this_sessions_lines(hall: Hall) -> None:
    session, other = (hall.session(RecordingTerms(prompt="call_recorded")) for _ in range(2))
    first, second, elsewhere = hall.line(session), hall.line(session), hall.line(other)
    assert hall.wait(180) == [] and hall.said == []  # the peer does not listen yet
    hall.wait(40)
    assert len(hall.said) == 3
    hall.conductor.heard(elsewhere)
    assert (session.conduct.state, other.conduct.state) == (RecordingState.WAITING, RecordingState.ON)
    hall.conductor.heard(first)
    assert session.conduct.state is RecordingState.WAITING
    hall.conductor.heard(second)
    assert session.conduct.state is RecordingState.ON


def test_a_line_that_closed_hears_no_prompt(hall: Hall) -> None:
    session = hall.session(RecordingTerms(prompt="call_recorded"))
    hall.conductor.line_closed(session, hall.line(session))
    assert hall.wait(900) == [] and hall.said == []
    assert hall.wait(200) == [(ControlAction.PROMPT_ENDED, RecordingState.ON)]
    assert hall.log.counters()["prompt_failed"] == 1


def test_sessions_that_wait_for_nothing_cost_a_poll_nothing(hall: Hall) -> None:
    for _ in range(1_000):
        hall.session(RecordingTerms())
    hall.session(RecordingTerms(beep_every_s=3_600))
    began_s = time.process_time()
    for _ in range(1_000):
        hall.conductor.tick()
    assert time.process_time() - began_s < 0.03  # a look at each takes more than 0.1 s


ANNOUNCED = RecordingTerms(prompt="this_call_is_recorded")
BEGAN = [(ControlAction.PROMPT_ENDED, RecordingState.ON)]


def test_a_leg_that_leaves_before_it_hears_the_prompt_keeps_no_other_from_being_recorded(hall: Hall) -> None:
    session = hall.session(ANNOUNCED)
    heard = hall.line(session)
    assert hall.wait(4_900) == []
    late = hall.line(session)
    hall.conductor.heard(heard)
    assert hall.wait(100) == []
    hall.conductor.line_closed(session, late)
    assert session.conduct.state is RecordingState.ON


def test_nothing_is_recorded_before_the_prompt_though_its_line_came_late(hall: Hall) -> None:
    session = hall.session(ANNOUNCED)
    assert hall.wait(900) == []
    line = hall.line(session)
    assert hall.wait(2_000) == []
    assert hall.said == [("this_call_is_recorded",)]
    hall.conductor.heard(line)
    assert session.conduct.state is RecordingState.ON


def test_where_a_late_line_can_say_nothing_the_recording_begins(hall: Hall) -> None:
    session = hall.session(ANNOUNCED)
    heard = hall.line(session)
    assert hall.wait(4_900) == []
    hall.moves(hall.line(session), peer=None)
    hall.conductor.heard(heard)
    assert hall.wait(300) == BEGAN


def test_a_prompt_is_said_where_the_line_goes_by_then(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    peers: list[tuple[str, int]] = []
    monkeypatch.setattr(hall.tap, "send", lambda stream, datagram, peer: peers.append(peer) or True)
    line = hall.line(hall.session(ANNOUNCED))
    hall.moves(line, peer=("127.0.0.1", 11))
    hall.wait(300)
    hall.speaker.round()
    assert set(peers) == {("127.0.0.1", 11)}


def test_who_objects_at_once_is_told_no_more_of_a_recording(hall: Hall) -> None:
    session = hall.session(replace(ANNOUNCED, consent=Consent.OBJECTION))
    hall.line(session)
    hall.conductor.request(session, ControlAction.OBJECT, via="header")
    hall.wait(2_000)
    assert hall.said == []


def test_what_is_being_said_follows_its_line_and_ends_with_a_hold(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers: list[tuple[str, int]] = []
    monkeypatch.setattr(hall.tap, "send", lambda stream, datagram, peer: peers.append(peer) or True)
    session = hall.session(ANNOUNCED)
    name = hall.line(session)

    def sent_on(line: Line) -> set[tuple[str, int]]:
        hall.conductor.line_changed(session, line)
        peers.clear()
        hall.wait(20)
        hall.speaker.round()
        return set(peers)

    hall.wait(220)
    line = hall.known(name)
    assert sent_on(line) == {("127.0.0.1", 9)}
    assert sent_on(replace(line, peer=("127.0.0.1", 11))) == {("127.0.0.1", 11)}
    assert sent_on(replace(line, held=True, peer=None)) == set()


def test_a_prompt_that_a_restart_has_cut_off_is_said_anew_before_the_recording_begins(hall: Hall) -> None:
    session = hall.session(ANNOUNCED)
    line = hall.line(session)
    hall.conductor.forget(session.session)  # as a killed process does
    hall.conductor.go_on(session, held=False, at_mono_ns=hall.now_ns)
    assert hall.wait(2_000) == []
    assert hall.said == [("this_call_is_recorded",)]
    hall.conductor.heard(line)
    assert session.conduct.state is RecordingState.ON


@pytest.mark.parametrize("begun_ms", [100, 300])  # before and after the prompt has begun
def test_a_prompt_that_a_hold_cuts_off_is_said_anew_before_the_recording_begins(
    hall: Hall, begun_ms: int
) -> None:
    session = hall.session(ANNOUNCED)
    line = hall.line(session)
    hall.wait(begun_ms)
    hall.holds(session, line, held=True)
    if begun_ms == 300:
        hall.conductor.heard(line)  # not completed
    assert hall.wait(60_000) == []
    said = len(hall.said)
    hall.holds(session, line, held=False)
    assert hall.wait(300) == []
    assert hall.said[said:] == [("this_call_is_recorded",)]
    hall.conductor.heard(line)
    assert session.conduct.state is RecordingState.ON


def test_a_held_line_keeps_no_other_from_being_recorded_and_hears_the_prompt_later(hall: Hall) -> None:
    session = hall.session(ANNOUNCED)
    held, other = hall.line(session), hall.line(session)
    hall.wait(300)
    hall.holds(session, held, held=True)
    hall.conductor.heard(held)
    assert session.conduct.state is RecordingState.WAITING
    hall.conductor.heard(other)
    assert session.conduct.state is RecordingState.ON
    hall.holds(session, held, held=False)
    hall.wait(300)
    assert len(hall.said) == 3
    hall.conductor.heard(held)
    assert session.conduct.state is RecordingState.ON


def test_where_somebody_speaks_whom_no_prompt_reaches_a_held_line_is_not_waited_for(hall: Hall) -> None:
    session = hall.session(ANNOUNCED)
    line, speaks = hall.line(session), hall.line(session)
    hall.moves(speaks, peer=None)
    hall.wait(300)
    hall.holds(session, line, held=True)
    assert session.conduct.state is RecordingState.ON


def test_a_held_line_that_closes_keeps_no_call_from_being_recorded(hall: Hall) -> None:
    session = hall.session(ANNOUNCED)
    line = hall.line(session)
    hall.wait(1_100)
    hall.holds(session, line, held=True)
    assert session.conduct.state is RecordingState.WAITING
    hall.conductor.line_closed(session, line)
    assert session.conduct.state is RecordingState.ON
