"""Recording clients as they are in the field: who is on which line, which call it is, what changes."""

from __future__ import annotations

import pytest

from recorderd.core.errors import SipFormatError
from recorderd.core.messages import Origin
from recorderd.wire.offer import (
    LegHeaderNames,
    Offer,
    OfferKind,
    describe_offer,
    later_offer,
    with_sdp,
)
from recorderd.wire.sdp import parse_sdp
from recorderd.wire.sip_message import body_parts, parse_sip
from recorderd.wire.siprec import extension
from tests.support.field import (
    INVITES,
    avaya_sbce,
    broadworks,
    cisco_bib,
    cisco_cube,
    metaswitch,
    oracle_acme,
    rfc7865,
    ribbon_sonus,
    small_clients,
    webex,
)
from tests.support.field.request import FieldRequest, Scene

SCENE = Scene()
IN_DIALOG = "<sip:srs@192.0.2.99>;tag=ours"


def _read(request: FieldRequest, *, to: str = "") -> Offer:
    return describe_offer(parse_sip(request.write(to=to)), leg_headers=LegHeaderNames())


def _later(known: Offer, request: FieldRequest) -> Offer:
    return later_offer(known, _read(request, to=IN_DIALOG))


def _numbers(offer: Offer) -> list[tuple[str, ...]]:
    """Give for each line the numbers of whose voice it is said to be."""
    by_id = {entry.participant_id: entry.number for entry in offer.description.participants}
    return [tuple(by_id[who] for who in line.participant_ids) for line in offer.lines]


TWO_LINES = {name for name in INVITES if name not in ("broadworks", "metaswitch", "cisco_bib")}


@pytest.mark.parametrize("name", sorted(INVITES))
def test_every_client_names_its_parties_and_keeps_its_labels(name: str) -> None:
    offer = _read(INVITES[name](SCENE))
    assert {offer.description.caller, offer.description.callee} <= {"+15551230001", "1002", ""}
    assert offer.description.caller == "+15551230001"
    assert offer.metadata_problem is None
    if offer.sdp is not None:
        written = [line.label for line in offer.sdp.media]
        assert [line.label for line in offer.lines] == [
            label or str(number) for number, label in enumerate(written)
        ]


@pytest.mark.parametrize("name", sorted(TWO_LINES - {"ribbon_sonus", "avaya_sbce"}))
def test_the_caller_is_on_the_first_line_and_the_callee_on_the_second(name: str) -> None:
    assert _numbers(_read(INVITES[name](SCENE))) == [("+15551230001",), ("1002",)]


@pytest.mark.parametrize("name", sorted(set(INVITES) - {"cisco_bib", "cisco_cube"}))
def test_every_recording_client_is_known_as_one(name: str) -> None:
    offer = _read(INVITES[name](SCENE))
    assert (offer.kind, offer.description.origin) == (OfferKind.SIPREC, Origin.SIPREC)


@pytest.mark.parametrize(
    "request_",
    [broadworks.pause(SCENE), small_clients.audiocodes(SCENE), avaya_sbce.invite(SCENE),
     small_clients.audiocodes(SCENE, contact=";+sip.src"), rfc7865.invite(SCENE)],
)  # fmt: skip
def test_a_client_is_known_by_its_feature_tag_wherever_it_puts_it(request_: FieldRequest) -> None:
    bare = FieldRequest(
        method="INVITE",
        headers=tuple(entry for entry in request_.headers if entry[0] != "Require"),
        content_type="application/sdp",
        body=rfc7865.offer(SCENE, lines=2),
    )
    assert _read(bare).kind is OfferKind.SIPREC
    tagless = FieldRequest(
        method="INVITE",
        headers=tuple(entry for entry in bare.headers if entry[0] != "Contact"),
        content_type=bare.content_type,
        body=bare.body,
    )
    assert _read(tagless).kind is OfferKind.LEG


# --- one family at a time ---------------------------------------------------------------------------


def test_broadworks_has_both_voices_on_one_line_and_says_which_way_the_call_went() -> None:
    offer = _read(broadworks.invite(SCENE))
    assert _numbers(offer) == [("+15551230001", "1002")]
    assert (offer.description.direction, offer.description.extension) == ("outbound", "+15551230001")
    incoming = _read(broadworks.invite(SCENE, originating=False)).description
    assert (incoming.direction, incoming.extension) == ("inbound", "1002")
    assert offer.metadata is not None
    assert extension(offer.metadata, "userID") == "agent1@example.com"
    assert offer.description.call_id == f"{SCENE.number('track')}:1"


def test_broadworks_pauses_with_an_sdp_alone_and_the_voices_stay() -> None:
    known = _read(broadworks.invite(SCENE))
    paused = _later(known, broadworks.pause(SCENE))
    assert paused.metadata_problem is None
    assert paused.sdp is not None
    assert paused.sdp.media[0].address == "0.0.0.0"
    assert (paused.lines, paused.description) == (known.lines, known.description)


def test_a_webex_conference_adds_a_voice_to_the_second_line() -> None:
    known = _read(webex.invite(SCENE))
    resting = _later(known, webex.before_conference(SCENE))
    assert resting.sdp is not None
    assert {line.direction for line in resting.sdp.media} == {"inactive"}
    assert _numbers(resting) == [("+15551230001",), ("1002",)]
    assert _numbers(_later(resting, webex.conference(SCENE))) == [("+15551230001",), ("1002", "1003")]


def test_the_two_dialogs_of_a_built_in_bridge_have_one_key_and_two_parties() -> None:
    near, far = (_read(cisco_bib.invite(SCENE, end=end)) for end in ("near", "far"))
    other = _read(cisco_bib.invite(Scene(call="other")))
    assert near.kind is far.kind is OfferKind.CISCO_BIB
    assert near.sdp is None  # the offer comes late
    assert near.call_key == far.call_key != ""
    assert near.call_key != other.call_key
    assert (near.leg, far.leg) == ("near", "far")
    assert near.description.call_id == far.description.call_id == SCENE.hex("session")
    lines = [
        with_sdp(offer, parse_sdp(cisco_bib.ack_answer(SCENE, end=offer.leg))).lines[0]
        for offer in (near, far)
    ]
    assert [(line.party, line.side_rank, line.label) for line in lines] == [
        ("1002", 0, "near"),
        ("+15551230001", 1, "far"),
    ]
    later = _later(far, cisco_bib.transferred(SCENE, end="far"))
    assert later.voices[0].party == "1003"


def test_cube_names_who_is_on_which_line_and_replaces_it_at_a_transfer() -> None:
    known = _read(cisco_cube.invite(SCENE))
    assert known.kind is OfferKind.CISCO_CUBE
    assert known.call_key == f"guid:{cisco_cube.guid(SCENE)}"
    assert [line.party for line in known.lines] == ["+15551230001", "1002"]
    later = _later(known, cisco_cube.transferred(SCENE))
    assert [line.party for line in later.lines] == ["+15551230001", "1003"]
    everybody = [entry.number for entry in later.description.participants]
    assert everybody == ["+15551230001", "1002", "1003"]  # who left stays described: the line has that voice
    assert later.sdp is not None
    assert later.sdp.media[1].port == SCENE.ports[2]
    assert later.description.call_id == known.description.call_id


def test_cube_may_put_both_participants_into_one_header_and_in_any_order() -> None:
    plain = cisco_cube.invite(SCENE)
    one = 'sip:1002@192.0.2.10;media-index="1", <sip:+15551230001@192.0.2.10>;media-index="0"'
    joined = FieldRequest(
        method="INVITE",
        headers=(("X-Cisco-Recording-Participant", one), *plain.headers[2:]),
        content_type=plain.content_type,
        body=plain.body,
    )
    assert [line.party for line in _read(joined).lines] == ["+15551230001", "1002"]


def test_cube_siprec_has_three_parts_and_rests_on_hold() -> None:
    request = cisco_cube.siprec_invite(SCENE)
    assert len(body_parts(parse_sip(request.write()))) == 3
    known = _read(request)
    held = _later(known, cisco_cube.siprec_hold(SCENE))
    assert held.sdp is not None
    assert {line.direction for line in held.sdp.media} == {"inactive"}
    assert held.lines == known.lines


def test_oracle_adds_the_callee_s_line_later() -> None:
    known = _read(oracle_acme.invite(SCENE, lines=1))
    assert _numbers(known) == [("+15551230001",)]
    assert known.description.callee == "1002"  # named, though not heard yet
    later = _later(known, oracle_acme.second_stream(SCENE))
    assert _numbers(later) == [("+15551230001",), ("1002",)]
    assert later.metadata is not None
    assert extension(later.metadata, "callerOrig") == "true"


def test_ribbon_s_crossed_associations_are_taken_at_their_word() -> None:
    offer = _read(ribbon_sonus.invite(SCENE))
    assert _numbers(offer) == [("1002",), ("+15551230001",)]
    assert (offer.description.caller, offer.description.callee) == ("+15551230001", "1002")
    assert offer.description.call_id == ribbon_sonus.original_call_id(SCENE)


def test_avaya_s_made_up_participant_is_left_out_and_the_real_ones_come_later() -> None:
    known = _read(avaya_sbce.invite(SCENE))
    assert known.description.call_id == avaya_sbce.universal_call_id(SCENE)
    assert [len(line.participant_ids) for line in known.lines] == [1, 1]
    assert [entry.number for entry in known.description.participants] == ["+15551230001", ""]
    update = _read(avaya_sbce.update(SCENE), to=IN_DIALOG)
    assert update.sdp is None
    later = later_offer(known, update)
    assert _numbers(later) == [("+15551230001",), ("1002",)]
    assert (later.description.caller, later.description.callee) == ("+15551230001", "1002")
    assert later.description.call_id == known.description.call_id


def test_metaswitch_says_who_is_recorded() -> None:
    description = _read(metaswitch.invite(SCENE)).description
    assert (description.direction, description.extension) == ("inbound", "1002")
    assert _numbers(_read(metaswitch.invite(SCENE, parties=3))) == [("+15551230001", "1002", "1003")]


def test_parties_go_by_place_where_no_association_says_anything() -> None:
    request = small_clients.opensips(SCENE)
    for tag in (b"send", b"recv"):
        start, end = b"<" + tag + b">", b"</" + tag + b">"
        body = request.body
        while start in body:
            before, _, rest = body.partition(start)
            body = before + rest.partition(end)[2]
        request = FieldRequest(
            method="INVITE", headers=request.headers, content_type=request.content_type, body=body
        )
    assert _numbers(_read(request)) == [("+15551230001",), ("1002",)]


def test_sems_has_words_for_labels_and_addresses_without_scheme() -> None:
    offer = _read(small_clients.sems(SCENE))
    assert [line.label for line in offer.lines] == ["caller", "callee"]
    assert [entry.aor for entry in offer.description.participants] == [
        "+15551230001@192.0.2.10",
        "1002@192.0.2.10",
    ]


@pytest.mark.parametrize(
    "metadata_type", ["application/rs-metadata", "Application/RS-Metadata+XML; charset=utf-8"]
)
def test_metadata_have_an_old_name_and_any_case(metadata_type: str) -> None:
    offer = _read(rfc7865.invite(SCENE, metadata_type=metadata_type))
    assert offer.metadata is not None
    alone = rfc7865.update_alone(SCENE, rfc7865.complete(SCENE), metadata_type=metadata_type)
    assert _read(alone, to=IN_DIALOG).metadata == offer.metadata


def test_a_multipart_body_is_known_without_its_header() -> None:
    request = rfc7865.invite(SCENE)
    expected = _read(request).lines
    for content_type in ("multipart/mixed", "application/sdp", ""):
        odd = FieldRequest(
            method="INVITE", headers=request.headers, content_type=content_type, body=request.body
        )
        assert _read(odd).lines == expected, content_type
    with pytest.raises(SipFormatError, match="boundary"):
        _read(
            FieldRequest(
                method="INVITE", headers=request.headers, content_type="multipart/mixed", body=b"v=0\r\n"
            )
        )


def test_an_invite_without_a_body_is_a_late_offer_and_no_error() -> None:
    offer = _read(rfc7865.invite(SCENE).without_body())
    assert (offer.kind, offer.sdp, offer.lines) == (OfferKind.SIPREC, None, ())
    assert offer.metadata_problem is not None
    later = with_sdp(offer, parse_sdp(rfc7865.offer(SCENE, lines=2)))
    assert [line.label for line in later.lines] == ["96", "97"]


# --- documents that come later ----------------------------------------------------------------------


def test_a_third_party_joins_by_a_partial_document() -> None:
    later = _later(_read(rfc7865.invite(SCENE)), rfc7865.third_joins(SCENE))
    assert _numbers(later) == [("+15551230001",), ("1002",), ("1003",)]
    assert later.metadata is not None
    assert (later.metadata.datamode, later.metadata.unknown_references) == ("complete", ())


def test_a_party_that_left_is_described_still_but_heard_no_more() -> None:
    known = _read(rfc7865.invite(SCENE))
    later = _later(known, rfc7865.update_alone(SCENE, rfc7865.partial_left(SCENE)))
    assert _numbers(later) == [("+15551230001",), ()]
    assert [entry.number for entry in later.description.participants] == ["+15551230001", "1002"]
    assert later.metadata is not None
    assert later.metadata.left == (SCENE.key("party1"),)


@pytest.mark.parametrize("place", [0, 1])
def test_whoever_leaves_first_is_caller_or_callee_still(place: int) -> None:
    known = _read(rfc7865.invite(SCENE))
    later = _later(known, rfc7865.update_alone(SCENE, rfc7865.partial_left(SCENE, place=place)))
    assert (later.description.caller, later.description.callee) == ("+15551230001", "1002")


def test_another_callee_in_a_complete_document_replaces_the_first() -> None:
    known = _read(rfc7865.invite(SCENE))
    other = rfc7865.complete(Scene(callee="1007"))
    later = _later(known, rfc7865.update_alone(SCENE, other))
    assert (later.description.caller, later.description.callee) == ("+15551230001", "1007")


def test_a_party_is_renamed_by_a_partial_document() -> None:
    known = _read(rfc7865.invite(SCENE))
    document = rfc7865.partial_renamed(SCENE, name="Dora", number="1009")
    later = _later(known, rfc7865.update_alone(SCENE, document))
    assert later.description.callee == "1009"
    assert _numbers(later) == [("+15551230001",), ("1009",)]
    assert [entry.name for entry in later.description.participants] == ["Bob B", "Dora"]


def test_what_a_partial_document_mentions_and_nobody_described_is_reported() -> None:
    known = _read(rfc7865.invite(SCENE))
    later = _later(known, rfc7865.update_alone(SCENE, rfc7865.partial_unknown(SCENE)))
    assert later.metadata is not None
    assert set(later.metadata.unknown_references) == {SCENE.key("nobody"), SCENE.key("nothing")}
    assert _numbers(later)[0] == ("+15551230001",)
    after_snapshot = _later(later, rfc7865.update_alone(SCENE, rfc7865.complete(SCENE)))
    assert after_snapshot.metadata is not None
    assert after_snapshot.metadata.unknown_references == ()


def test_a_partial_document_after_a_restart_asks_for_everything() -> None:
    blank = _read(rfc7865.invite(SCENE).without_body())
    later = _later(blank, rfc7865.update_alone(SCENE, rfc7865.partial_left(SCENE)))
    assert later.metadata is not None
    assert set(later.metadata.unknown_references) == {
        SCENE.key("party1"),
        SCENE.key("stream1"),
        SCENE.key("session"),
    }


def test_metadata_that_come_after_all_make_a_plain_leg_a_siprec_session() -> None:
    bare = FieldRequest(
        method="INVITE",
        headers=(("From", "<sip:a@x>;tag=1"), ("To", "<sip:r@x>")),
        content_type="application/sdp",
        body=rfc7865.offer(SCENE, lines=2),
    )
    known = _read(bare)
    assert known.kind is OfferKind.LEG
    later = _later(known, rfc7865.update_alone(SCENE, rfc7865.complete(SCENE)))
    assert (later.kind, later.description.origin) == (OfferKind.SIPREC, Origin.SIPREC)
    assert _numbers(later) == [("+15551230001",), ("1002",)]
