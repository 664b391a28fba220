"""What programs say of the clock: captured outputs are read, anything else is one error."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.app.kernel_clock import read_kernel_clock, statement_of
from recorderd.core.errors import TimeFormatError
from recorderd.wire.manifest_entries import CLOCK_SOURCES, ClockStatement
from recorderd.wire.time_sources import parse_chrony_tracking, parse_timesync_status

# chronyd 4.3: a client whose server was told to be 250 ms ahead ("0.249998808 seconds slow of NTP time" in
# the text form), one that never had a server, one that is its own reference.
CHRONY_SLOW = (
    b"7F000001,127.0.0.1,4,1795873413.022814042,0.249998808,0.000000047,0.000000076,-0.023,0.002,0.047,"
    b"0.000005907,0.000000733,0.3,Normal\n"
)
CHRONY_ALONE = (
    b"00000000,,0,0.000000000,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,1.000000000,1.000000000,"
    b"0.0,Not synchronised\n"
)
CHRONY_LOCAL = (
    b"7F7F0101,,10,1795873372.946512929,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,0.000000000,"
    b"0.000000000,0.0,Normal\n"
)
# systemd 252
TIMESYNC = b"""\
       Server: 192.0.2.123 (ntp.example.net)
Poll interval: 34min 8s (min: 32s; max 34min 8s)
         Leap: normal
      Version: 4
      Stratum: 2
    Reference: C342502B
    Precision: 1us (-24)
Root distance: 23.456ms (max: 5s)
       Offset: -1min 2.345ms
        Delay: 12.345ms
       Jitter: 10month 2w 1d 13h 28min 23.169258s
 Packet count: 17
    Frequency: -0,870ppm
"""
TIMESYNC_ASKING = b"""\
       Server: 192.0.2.123 (ntp.example.net)
Poll interval: 0 (min: 32s; max 34min 8s)
 Packet count: 0
"""


def test_chrony_tells_by_how_much_the_clock_is_behind() -> None:
    assert parse_chrony_tracking(CHRONY_SLOW) == ClockStatement(
        source="chrony",
        synchronised=True,
        offset_ns=249_998_808,
        stratum=4,
        max_error_ns=249_998_808 + 733 + 5907 // 2,
    )
    fast = parse_chrony_tracking(CHRONY_SLOW.replace(b",0.249998808,", b",-1557.763061523,"))
    assert fast.offset_ns == -1_557_763_061_523
    assert parse_chrony_tracking(CHRONY_LOCAL).stratum == 10


def test_chrony_without_a_server_is_not_synchronised() -> None:
    assert parse_chrony_tracking(CHRONY_ALONE) == ClockStatement(source="chrony")
    silent = CHRONY_SLOW.replace(b"Normal", b"Not synchronised")
    assert parse_chrony_tracking(silent) == ClockStatement(source="chrony")


def test_timesyncd_tells_offset_and_stratum() -> None:
    assert parse_timesync_status(TIMESYNC) == ClockStatement(
        source="timesyncd",
        synchronised=True,
        offset_ns=-60_002_345_000,
        stratum=2,
        max_error_ns=60_002_345_000 + 23_456_000,
    )
    assert parse_timesync_status(TIMESYNC.replace(b"-1min 2.345ms", b"+39us")).offset_ns == 39_000
    assert parse_timesync_status(TIMESYNC.replace(b"-1min 2.345ms", b"0")).offset_ns == 0


@pytest.mark.parametrize(
    "raw", [TIMESYNC_ASKING, TIMESYNC.replace(b"Leap: normal", b"Leap: not synchronized")]
)
def test_timesyncd_without_an_answer_is_not_synchronised(raw: bytes) -> None:
    assert parse_timesync_status(raw) == ClockStatement(source="timesyncd")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "fields"),
        (b"506 Cannot talk to daemon\n", "fields"),
        (CHRONY_SLOW.replace(b",Normal", b""), "fields"),
        (CHRONY_SLOW.replace(b"Normal", b"Perhaps"), "leap"),
        (CHRONY_SLOW.replace(b",4,", b",-4,"), "stratum"),
        (CHRONY_SLOW.replace(b",4,", b",4e9,"), "stratum"),
        (CHRONY_SLOW.replace(b"0.249998808", b"nan"), "system time"),
        (CHRONY_SLOW.replace(b"0.249998808", b"1e400"), "system time"),
        (CHRONY_SLOW.replace(b"0.249998808", b""), "system time"),
        (CHRONY_SLOW.replace(b"0.000000733", b"0x1"), "root dispersion"),
        (CHRONY_SLOW + b"x" * 20_000, "output"),
    ],
)
def test_what_chrony_does_not_say_is_refused(raw: bytes, field: str) -> None:
    with pytest.raises(TimeFormatError, match=field):
        parse_chrony_tracking(raw)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"\xff\xfe", "Server"),
        (TIMESYNC.replace(b"Packet count: 17", b"Packet count: many"), "Packet count"),
        (TIMESYNC.replace(b"Offset: -1min", b"Offset: -1fortnight"), "Offset"),
        (TIMESYNC.replace(b"Offset: -1min 2.345ms", b"Offset: 5"), "Offset"),
        (TIMESYNC.replace(b"Offset: -1min 2.345ms", b"Offset:"), "Offset"),
        (TIMESYNC.replace(b"-1min 2.345ms", b"999999999999y"), "Offset"),
        (TIMESYNC.replace(b"Stratum: 2", b"Stratum: two"), "stratum"),
        (TIMESYNC.replace(b"Root distance: 23.456ms", b"Root distance: far"), "Root distance"),
        (b"\n".join(line for line in TIMESYNC.splitlines() if b"Offset" not in line), "Offset: missing"),
    ],
)
def test_what_timesyncd_does_not_say_is_refused(raw: bytes, field: str) -> None:
    with pytest.raises(TimeFormatError, match=field):
        parse_timesync_status(raw)


FIGURES = st.text("0123456789.,-+:eEnaifxmsuhdwy \n()\u0660\u00b2", max_size=40).map(str.encode)


@given(st.binary(max_size=400) | FIGURES, st.integers(0, 13), st.sampled_from(TIMESYNC.splitlines()))
def test_any_output_is_a_statement_or_one_error(noise: bytes, place: int, line: bytes) -> None:
    fields = CHRONY_SLOW.split(b",")
    fields[place] = noise
    spoilt = TIMESYNC.replace(line, line.partition(b":")[0] + b": " + noise)
    for parse, raw in (
        (parse_chrony_tracking, noise),
        (parse_chrony_tracking, b",".join(fields)),
        (parse_timesync_status, noise),
        (parse_timesync_status, spoilt),
    ):
        with suppress(TimeFormatError):
            statement = parse(raw)
            assert statement.source in CLOCK_SOURCES
            assert 0 <= statement.stratum <= 15 and statement.max_error_ns >= abs(statement.offset_ns)


def test_the_kernel_of_this_machine_answers() -> None:
    found = read_kernel_clock()
    assert found.source == "adjtimex"
    assert found.max_error_ns > 0  # what nobody synchronises has 16 s


@pytest.mark.parametrize(
    ("state", "status", "synchronised", "offset_ns"),
    [
        (0, 0x2001, True, -250),  # TIME_OK, STA_PLL | STA_NANO
        (0, 0x0001, True, -250_000),
        (1, 0x2011, True, -250),  # a leap second is due
        (5, 0x2041, False, -250),  # TIME_ERROR, STA_UNSYNC
        (5, 0x2001, False, -250),
        (0, 0x0040, False, -250_000),
    ],
)
def test_the_kernels_words_are_understood(
    state: int, status: int, synchronised: bool, offset_ns: int
) -> None:
    found = statement_of(state, offset=-250, max_error_us=900, status=status)
    assert found == ClockStatement(
        source="adjtimex", synchronised=synchronised, offset_ns=offset_ns, max_error_ns=900_000
    )


def test_a_kernel_that_refuses_leaves_nothing_claimed() -> None:
    assert statement_of(-1, offset=1, max_error_us=1, status=0) == ClockStatement()
