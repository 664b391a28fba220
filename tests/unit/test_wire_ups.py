"""What upsd and apcupsd say, octet by octet."""

from __future__ import annotations

import pytest

from recorderd.core.conditions import UpsReading
from recorderd.core.errors import UpsFormatError, UpsSilent
from recorderd.wire.apcupsd_nis import NisReply
from recorderd.wire.nut import (
    LINE_LIMIT_BYTES,
    LoginRefused,
    NotTold,
    NutConversation,
    NutEvent,
    Refused,
    TlsAgreed,
    Told,
)

VARIABLES = (
    b"BEGIN LIST VAR ups\n"
    b'VAR ups battery.charge "97"\n'
    b'VAR ups battery.runtime "1234.50"\n'
    b'VAR ups device.mfr "A \\"quoted\\" \\\\ name"\n'
    b'VAR ups ups.status "OB DISCHRG"\n'
    b"END LIST VAR ups\n"
)
READING = UpsReading(words=frozenset({"OB", "DISCHRG"}), runtime_s=1234, charge_percent=97)


def _answers(talk: NutConversation, octets: bytes, *, pieces: int) -> list[NutEvent]:
    events: list[NutEvent] = []
    for at in range(0, len(octets), pieces):
        events += talk.receive(octets[at : at + pieces])
    return events


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
def test_a_ups_is_asked_and_tells(pieces: int) -> None:
    talk = NutConversation(ups="ups")
    talk.ask_status()
    assert talk.take_outgoing() == b"LIST VAR ups\n"
    assert _answers(talk, VARIABLES, pieces=pieces) == [Told(READING)]


def test_we_log_in_and_ask_at_once() -> None:
    talk = NutConversation(ups="ups", user="recorder", password='pass "word" \\')
    talk.ask_status()
    assert talk.take_outgoing() == (
        b'USERNAME recorder\nPASSWORD "pass \\"word\\" \\\\"\nLOGIN ups\nLIST VAR ups\n'
    )
    assert talk.receive(b"OK\nOK\nOK\n" + VARIABLES) == (Told(READING),)
    assert talk.is_logged_in
    talk.leave()
    assert talk.take_outgoing() == b"LOGOUT\n"


def test_a_refused_login_is_told_and_the_reading_comes_all_the_same() -> None:
    talk = NutConversation(ups="ups", user="recorder", password="wrong")
    talk.ask_status()
    events = talk.receive(b"OK\nOK\nERR ACCESS-DENIED\n" + VARIABLES)
    assert events == (LoginRefused("LOGIN: ACCESS-DENIED"), Told(READING))


def test_nothing_but_starttls_is_said_in_clear() -> None:
    talk = NutConversation(ups="ups", user="recorder", password="secret", wants_tls=True)
    talk.ask_status()
    assert talk.take_outgoing() == b"STARTTLS\n"
    assert talk.receive(b"OK STARTTLS\n") == (TlsAgreed(),)
    assert talk.take_outgoing() == b""
    talk.secured()
    assert talk.take_outgoing().startswith(b"USERNAME recorder\nPASSWORD secret\nLOGIN ups\nLIST VAR")


def test_a_server_without_tls_is_refused() -> None:
    talk = NutConversation(ups="ups", user="recorder", password="secret", wants_tls=True)
    talk.ask_status()
    talk.take_outgoing()
    assert talk.receive(b"ERR FEATURE-NOT-CONFIGURED\n") == (Refused("STARTTLS: FEATURE-NOT-CONFIGURED"),)
    assert talk.take_outgoing() == b""


def test_what_somebody_sends_behind_starttls_in_clear_is_refused() -> None:
    talk = NutConversation(ups="ups", wants_tls=True)
    with pytest.raises(UpsFormatError, match="STARTTLS"):
        talk.receive(b'OK STARTTLS\nVAR ups ups.status "OL"\n')


def test_the_servers_only_ups_needs_no_name() -> None:
    talk = NutConversation(ups="", user="u", password="p")
    talk.ask_status()
    assert talk.take_outgoing() == b"USERNAME u\nPASSWORD p\nLIST UPS\n"
    assert talk.receive(b'OK\nOK\nBEGIN LIST UPS\nUPS ups "Cellar"\nEND LIST UPS\n') == ()
    assert talk.take_outgoing() == b"LOGIN ups\nLIST VAR ups\n"


def test_of_several_one_must_be_named() -> None:
    talk = NutConversation(ups="")
    talk.ask_status()
    (event,) = talk.receive(b'BEGIN LIST UPS\nUPS b "B"\nUPS a "A"\nEND LIST UPS\n')
    assert event == Refused("the server has not one UPS but: a, b; name one")


@pytest.mark.parametrize("code", ["DATA-STALE", "DRIVER-NOT-CONNECTED"])
def test_stale_values_are_not_told_and_the_conversation_goes_on(code: str) -> None:
    talk = NutConversation(ups="ups")
    talk.ask_status()
    assert talk.receive(f"ERR {code}\n".encode()) == (NotTold(code),)
    talk.ask_status()
    assert talk.receive(VARIABLES) == (Told(READING),)


def test_an_unknown_ups_is_refused() -> None:
    talk = NutConversation(ups="ups")
    talk.ask_status()
    assert talk.receive(b"ERR UNKNOWN-UPS\n") == (Refused("LIST VAR: UNKNOWN-UPS"),)


@pytest.mark.parametrize("figure", ["", "-1", "n/a", "0x10", "1e9", "١٢"])
def test_a_figure_that_is_none_is_not_known(figure: str) -> None:
    talk = NutConversation(ups="ups")
    talk.ask_status()
    rows = f'VAR ups battery.runtime "{figure}"\nVAR ups ups.status "OL"\n'.encode()
    (event,) = talk.receive(b"BEGIN LIST VAR ups\n" + rows + b"END LIST VAR ups\n")
    assert event == Told(UpsReading(words=frozenset({"OL"})))


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 400 Bad Request\n",
        b'BEGIN LIST VAR ups\nVAR ups ups.status "OL\n',
        b"BEGIN LIST VAR ups\nOK\n",
        b"x" * (LINE_LIMIT_BYTES + 1),
        VARIABLES + b"OK\n",
    ],
)
def test_what_no_upsd_says_raises(octets: bytes) -> None:
    talk = NutConversation(ups="ups")
    talk.ask_status()
    with pytest.raises(UpsFormatError):
        talk.receive(octets)


def _nis(**rows: str) -> bytes:
    lines = [f"{name:<9}: {value}\n".encode() for name, value in rows.items()]
    return b"".join(len(line).to_bytes(2, "big") + line for line in lines) + b"\0\0"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("ONLINE", {"OL"}),
        ("ONLINE SLAVE", {"OL", "SLAVE"}),
        ("ONBATT LOWBATT", {"OB", "LB"}),
        ("CAL ONBATT", {"CAL", "OB"}),
        ("TRIM ONLINE REPLACEBATT", {"TRIM", "OL", "RB"}),
        ("SHUTTING DOWN", {"FSD"}),
    ],
)
def test_apcupsd_speaks_in_nuts_words(status: str, words: set[str]) -> None:
    octets = _nis(APC="001,036,0900", STATUS=status, BCHARGE="87.0 Percent", TIMELEFT="25.5 Minutes")
    reply = NisReply()
    assert [reply.receive(octets[at : at + 1]) for at in range(len(octets) - 1)] == [None] * (len(octets) - 1)
    assert reply.receive(octets[-1:]) == UpsReading(words=frozenset(words), runtime_s=1530, charge_percent=87)


def test_a_ups_that_apcupsd_has_lost_is_silent() -> None:
    with pytest.raises(UpsSilent, match="COMMLOST"):
        NisReply().receive(_nis(STATUS="COMMLOST "))


@pytest.mark.parametrize("octets", [_nis(UPSNAME="x"), b"\xff\xff", b"HT" * 40])
def test_what_no_apcupsd_says_raises(octets: bytes) -> None:
    with pytest.raises(UpsFormatError):
        NisReply().receive(octets)
