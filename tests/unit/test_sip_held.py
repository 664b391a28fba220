"""What the recording is told of a line: whence its packets come, and when its sender stands still."""

from __future__ import annotations

import itertools
import logging
import queue
from collections.abc import Iterator
from typing import cast

import pytest

from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog
from recorderd.core.ids import DialogId, StreamId
from recorderd.core.messages import RecordMessage, StreamHeld, StreamOpened
from recorderd.core.terms import RecordingTerms
from recorderd.policy import modes
from recorderd.sip.dialogs import Dialog
from recorderd.sip.library import RecorderCall
from recorderd.sip.report import Report
from recorderd.sip.sessions import SessionBook
from recorderd.sip.streams import DialogStreams
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.wire.digits import DigitCollector
from recorderd.wire.offer import describe_offer
from recorderd.wire.offered import LegHeaderNames
from recorderd.wire.sdp import parse_sdp
from recorderd.wire.sip_message import parse_sip

INVITE = (
    b"INVITE sip:recorder@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.9\r\n"
    b"From: <sip:a@127.0.0.9>;tag=1\r\n"
    b"To: <sip:recorder@127.0.0.1>\r\nCall-ID: held-1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
)
DIALOG = DialogId("d/1")


class Line:
    """One dialog with one line, and what the recording hears of it."""

    def __init__(self) -> None:
        clock = SystemClock()
        log = EventLog(logger=logging.getLogger("held"), clock=clock)
        ports = PortPool(address="127.0.0.1", port_min=22_200, port_max=22_299, receive_buffer_bytes=1 << 15)
        self.tap = Tap(ports=ports, max_streams=4, clock=clock, log=log)
        self._messages: queue.Queue[RecordMessage] = queue.Queue()
        self._report = Report(messages=self._messages, tap=self.tap, clock=clock, log=log)
        offer = describe_offer(parse_sip(INVITE), leg_headers=LegHeaderNames())
        book, terms = SessionBook(), RecordingTerms()
        session = book.begin(
            key="k",
            description=offer.description,
            terms=terms,
            conduct=modes.begin(terms),
            parties=frozenset(),
            at_mono_ns=1,
            at_utc_ns=1,
        )
        book.enter(session, DIALOG)
        numbers = itertools.count(1)
        self._entry = Dialog(
            call=cast(RecorderCall, None),  # the library's, which has no part in this
            call_id=1,
            dialog=DIALOG,
            offer=offer,
            streams=DialogStreams(
                ports=ports,
                tap=self.tap,
                address="127.0.0.1",
                log=log,
                name_stream=lambda: StreamId(f"s/{next(numbers)}"),
            ),
            session=session,
            digits=DigitCollector(codes={}),
            session_number=1,
        )

    def offered(self, direction: str, *, address: str = "127.0.0.9", port: int = 4000) -> list[RecordMessage]:
        """Take an offer as the desk does; give what the recording was told."""
        text = f"v=0\nc=IN IP4 {address}\nm=audio {port} RTP/AVP 8\na={direction}\n"
        streams, session = self._entry.streams, self._entry.session
        change = streams.answer(parse_sdp(text.encode()), session_id=1)
        for number, line in change.opened:
            self._report.stream_opened(self._entry, number, line, at_mono_ns=1)
        for line in streams.lines.values():
            self._report.stream_held(session, line, at_mono_ns=2)
        return [self._messages.get_nowait() for _ in range(self._messages.qsize())]


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.tap.close()


def holds(messages: list[RecordMessage]) -> list[bool]:
    return [message.held for message in messages if isinstance(message, StreamHeld)]


def test_a_stream_is_told_to_come_from_where_the_offer_says(line: Line) -> None:
    (opened,) = line.offered("sendonly")
    assert isinstance(opened, StreamOpened)
    assert opened.remote_address == "127.0.0.9"


@pytest.mark.parametrize(
    ("direction", "address"), [("inactive", "127.0.0.9"), ("recvonly", "127.0.0.9"), ("sendonly", "0.0.0.0")]
)
@pytest.mark.parametrize("again", ["sendonly", "sendrecv"])
def test_a_hold_is_told_once_and_so_is_its_end(line: Line, direction: str, address: str, again: str) -> None:
    assert holds(line.offered(again)) == []
    (held,) = line.offered(direction, address=address)
    assert isinstance(held, StreamHeld) and held.held and held.stream == StreamId("s/1")
    assert line.offered(direction, address=address) == []
    assert holds(line.offered(again)) == [False]
    assert line.offered(again) == []


def test_a_line_that_begins_on_hold_is_told_so_after_it_was_opened(line: Line) -> None:
    opened, held = line.offered("inactive", address="0.0.0.0")
    assert isinstance(opened, StreamOpened) and opened.remote_address == ""
    assert isinstance(held, StreamHeld) and held.held
    assert holds(line.offered("sendonly")) == [False]
