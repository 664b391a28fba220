"""Recording legs of an exchange: whose voice, which call, which other call, and legs without headers."""

from __future__ import annotations

import pytest

from recorderd.wire.offer import LegHeaderNames, Offer, OfferKind, describe_offer, fallback_key, later_offer
from recorderd.wire.sip_message import parse_sip
from tests.support.field import asterisk
from tests.support.field.request import Scene

SDP = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 8\r\n"


def _leg(*headers: str, caller: str = "1001", callee: str = "1002", body: str = SDP) -> Offer:
    lines = [
        "INVITE sip:recorder@x SIP/2.0",
        "Call-ID: 7",
        f"From: <sip:{caller}@x>;tag=a",
        f"To: <sip:{callee}@x>",
    ]
    lines += [*headers, "Content-Type: application/sdp"]
    return describe_offer(parse_sip("\r\n".join([*lines, "", body]).encode()), leg_headers=LegHeaderNames())


CALL = ("X-Call-ID: c-1", "X-Call-Caller: 1001", "X-Call-Callee: 600")


@pytest.mark.parametrize(
    ("leg", "extension", "party", "rank"),
    [
        ("caller", "", "1001", 0),
        ("callee", "", "600", 1),
        ("caller", "1002", "1001", 1),
        ("callee", "1002", "1002", 0),  # the agent that answered behind the queue's number
        ("callee", "1001", "600", 1),  # the recorded extension is the caller
        ("Callee", "1002", "1002", 0),
        ("mixed", "1002", "mixed", 2),  # both voices; a second such leg brings the same
        ("conference", "", "", 2),
        ("", "", "", 2),
    ],
)
def test_a_leg_says_whose_voice_it_carries(leg: str, extension: str, party: str, rank: int) -> None:
    headers = [*CALL, f"X-Call-Leg: {leg}"]
    headers += [f"X-Call-Extension: {extension}"] if extension else []
    offer = _leg(*headers)
    assert (offer.kind, offer.leg, offer.call_key) == (OfferKind.LEG, leg, "c-1")
    (line,) = offer.lines
    assert (line.party, line.side_rank, line.label) == (party, rank, leg or "7")


@pytest.mark.parametrize(
    "withheld", ["anonymous", "Anonymous <sip:anonymous@anonymous.invalid>", "Restricted", "unknown"]
)
@pytest.mark.parametrize(("leg", "header"), [("caller", "Caller"), ("callee", "Callee")])
def test_two_who_withhold_their_numbers_are_not_one_party(leg: str, header: str, withheld: str) -> None:
    offer = _leg("X-Call-ID: c-1", f"X-Call-Leg: {leg}", f"X-Call-{header}: {withheld}")
    (line,) = offer.lines
    assert line.party == ""


def test_a_leg_names_queue_conference_kind_and_the_call_it_was_linked_with() -> None:
    offer = _leg(
        *CALL,
        "X-Call-Queue: support",
        "X-Call-Conference: 701",
        "X-Call-Kind: Voicemail",
        "X-Call-Linked: c-2",
        "X-Call-Direction: Inbound",
        "X-Recording-Consent: no",
        "Supported: timer, record-aware",
    )
    described = offer.description
    assert (described.queue, described.conference, described.kind) == ("support", "701", "voicemail")
    assert (described.direction, offer.linked_call_id) == ("inbound", "c-2")
    assert (offer.consent, offer.record_aware) == (False, True)


def test_a_leg_that_says_nothing_of_consent_leaves_it_open() -> None:
    assert [_leg(*CALL, *header).consent for header in ([], ["X-Recording-Consent: yes"])] == [None, True]
    assert _leg(*CALL, "X-Recording-Consent: later").consent is None


def test_a_conference_leg_is_named_by_whom_it_called() -> None:
    offer = _leg("X-Call-ID: c-1", "X-Call-Leg: conference", "X-Call-Callee: 701")
    assert offer.description.conference == "701"


@pytest.mark.parametrize("written", ["%2B442079460000", "+442079460000;npdi=yes;rn=+4421"])
def test_a_number_is_read_whatever_an_exchange_puts_around_it(written: str) -> None:
    offer = _leg(caller=written)
    assert offer.description.caller == "+442079460000"
    assert fallback_key(offer) == {"+442079460000", "1002"}


def test_legs_without_call_id_meet_by_their_two_parties_in_either_order() -> None:
    there, back = _leg(caller="1001", callee="1002"), _leg(caller="1002", callee="1001")
    assert fallback_key(there) == fallback_key(back) == {"1001", "1002"}
    assert fallback_key(_leg(caller="1003", callee="1002")) != fallback_key(there)
    assert there.lines[0].party == ""  # nothing says whether it is one voice or both


@pytest.mark.parametrize("headers", [CALL, ("P-Asserted-Identity: <sip:1002@x>",), ("X-Call-Caller: 1002",)])
def test_a_leg_with_a_call_id_or_with_one_party_alone_meets_nobody_by_chance(
    headers: tuple[str, ...],
) -> None:
    assert fallback_key(_leg(*headers)) == frozenset()


def test_a_later_request_need_not_repeat_the_headers() -> None:
    known = _leg(*CALL, "X-Call-Leg: callee", "X-Call-Extension: 1002")
    later = later_offer(known, _leg(body=SDP + "m=audio 4002 RTP/AVP 8\r\n"))
    assert later.description == known.description
    assert [(line.label, line.party) for line in later.lines] == [("callee", "1002"), ("callee.1", "")]
    linked = later_offer(known, _leg("X-Call-Linked: c-2", "X-Recording-Consent: yes", body=""))
    assert (linked.linked_call_id, linked.consent, linked.lines) == ("c-2", True, known.lines)


def test_headers_are_kept_short_and_on_one_line() -> None:
    offer = _leg(f"X-Call-ID: {'9' * 5_000}", "X-Call-Queue: a", "  b")
    assert len(offer.description.call_id) == 512
    assert offer.description.queue == "a b"


@pytest.mark.parametrize(
    "headers",
    [
        ("From: <sip:{long}@h>;tag=1", "To: <sip:{long}@h>", "Call-ID: {long}"),
        ("P-Asserted-Identity: <sip:{long}@h>", "From: <sip:1@h>;tag=1", "To: <sip:2@h>", "Call-ID: 1"),
        (
            "From: <sip:1@h;x-nearend;x-nearendaddr={long};x-farendaddr={long};x-refci={long}>",
            *("To: <sip:2@h>", "Call-ID: 1"),
        ),
        ("X-Cisco-Recording-Participant: <sip:{long}@h>;media-index=0", "From: <sip:1@h>", "Call-ID: 1"),
        ("Require: siprec", "From: <sip:{long}@h>;tag=1", "To: <sip:{long}@h>", "Call-ID: {long}"),
    ],
)
def test_whatever_is_stated_fits_a_manifest(headers: tuple[str, ...]) -> None:
    head = "\r\n".join(
        ("INVITE sip:r@h SIP/2.0", "CSeq: 1 INVITE", "Content-Type: application/sdp", *headers)
    )
    sdp = "v=0\r\nm=audio 5 RTP/AVP 8\r\na=label:{long}\r\nm=audio 7 RTP/AVP 8\r\na=label:{long}\r\n"
    raw = f"{head}\r\n\r\n{sdp}".replace("{long}", "9" * 5_000).encode()
    message = parse_sip(raw)
    offer = describe_offer(message, leg_headers=LegHeaderNames())
    told = offer.description
    texts = [told.call_id, told.caller, told.callee, told.extension, *offer.parties, offer.leg]
    texts += [
        text for row in told.participants for text in (row.participant_id, row.aor, row.name, row.number)
    ]
    texts += [text for line in offer.lines for text in (line.label, line.party, *line.participant_ids)]
    assert max(map(len, texts)) <= 520
    assert len({line.label for line in offer.lines}) == len(offer.lines)
    assert offer.sdp is not None
    assert {line.label for line in offer.sdp.media} == {"9" * 5_000}  # the answer tells it back whole


def test_the_two_legs_of_an_asterisk_call_have_one_key_and_two_parties() -> None:
    scene = Scene()
    legs = [
        describe_offer(parse_sip(asterisk.leg(scene, name=name).write()), leg_headers=LegHeaderNames())
        for name in ("caller", "callee")
    ]
    assert {offer.call_key for offer in legs} == {asterisk.call_id(scene)}
    assert [(offer.lines[0].party, offer.lines[0].side_rank) for offer in legs] == [
        ("+15551230001", 1),
        ("1002", 0),
    ]
    again = describe_offer(
        parse_sip(asterisk.reinvite(scene, name="callee").write(to="<sip:r@x>;tag=1")),
        leg_headers=LegHeaderNames(),
    )
    later = later_offer(legs[1], again)
    assert (later.lines, later.description) == (legs[1].lines, legs[1].description)


def test_bare_legs_meet_by_from_and_to() -> None:
    scene = Scene()
    there = asterisk.bare_leg(scene)
    back = asterisk.bare_leg(scene, caller=scene.callee, callee=scene.caller)
    keys = {
        fallback_key(describe_offer(parse_sip(leg.write()), leg_headers=LegHeaderNames()))
        for leg in (there, back)
    }
    assert keys == {frozenset({scene.caller, scene.callee})}
