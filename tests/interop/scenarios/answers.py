"""What is taken and how it is answered (RFC 7866 sections 6.1, 7.1 and 8)."""

from __future__ import annotations

import re

from tests.interop.offers import body_changed, header_changed, headers, offer, parts_swapped, with_body
from tests.interop.stage import (
    ALL,
    Play,
    check_answer,
    check_audio,
    duration_s,
    number_on,
    numbers,
    offers,
    say,
    scenario,
    spoken,
    talk,
)
from tests.support.field import cisco_bib, cisco_cube, rfc7865
from tests.support.field.request import FieldRequest, audio
from tests.support.sip_text import answer_lines


def recorded_whole(play: Play, request: FieldRequest, *, labels: tuple[str, str]) -> None:
    """A call of two parties is taken, answered as a SIPREC client needs it, and recorded to the sample."""
    client = play.client()
    dialog = play.taken(request, client)
    assert dialog.response is not None
    check_answer(dialog.response, offered_labels=labels)
    talks = spoken(dialog)
    assert dialog.bye().code == 200
    recorded = play.archived(dialog)
    places = check_audio(recorded, *talks, channels=2)
    assert [channel for channel, _ in places] == [0, 1]
    assert 0.8 <= duration_s(recorded) < 3.0
    (kept,) = offers(recorded)
    assert request.body in kept


@scenario(*ALL)
def a_call_of_two_parties_is_recorded_as_it_was(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    assert dialog.response is not None
    check_answer(dialog.response, offered_labels=("96", "97"))
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert numbers(recorded) == [scene.caller, scene.callee]
    assert (number_on(recorded, 0), number_on(recorded, 1)) == ([scene.caller], [scene.callee])
    assert recorded.openssl_verifies(recorded.wav)
    assert recorded.openssl_verifies(recorded.manifest_path)


@scenario("udp", "tcp")
def metadata_may_stand_before_the_sdp(play: Play) -> None:
    client = play.client()
    request = parts_swapped(rfc7865.invite(play.scene(client)))
    assert request.body.index(b"<recording") < request.body.index(b"m=audio")
    recorded_whole(play, request, labels=("96", "97"))


@scenario("tcp")
def the_old_type_of_metadata_is_read(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene, metadata_type="application/rs-metadata"), client)
    say(talk(dialog.lines[0]))
    dialog.bye()
    assert numbers(play.archived(dialog)) == [scene.caller, scene.callee]


@scenario("udp", "tls")
def further_parts_of_the_body_are_kept_and_do_no_harm(play: Play) -> None:
    client = play.client()
    recorded_whole(play, cisco_cube.siprec_invite(play.scene(client)), labels=("1", "2"))


@scenario("tcp")
def a_boundary_in_quotes_a_preamble_and_folded_headers_are_read(play: Play) -> None:
    client = play.client()
    plain = rfc7865.invite(play.scene(client))
    boundary = plain.content_type.partition("boundary=")[2]
    body = b"This is a preamble.\r\n" + plain.body + b"And an epilogue.\r\n"
    request = FieldRequest(
        method="INVITE",
        headers=plain.headers,
        content_type=f'Multipart/Mixed;\r\n boundary="{boundary}"',
        body=body,
    )
    recorded_whole(play, request, labels=("96", "97"))


@scenario("udp")
def compact_header_names_are_read(play: Play) -> None:
    client = play.client()
    plain = rfc7865.invite(play.scene(client))
    short = {"From": "f", "Contact": "m"}
    known = tuple((short.get(name, name), value) for name, value in plain.headers)
    dialog = play.dialog(client)
    reply = dialog.send(
        FieldRequest(
            method="INVITE",
            headers=(*known, ("c", plain.content_type), ("k", "timer")),
            body=plain.body,
        )
    )
    check_answer(reply, offered_labels=("96", "97"))
    entry = talk(dialog.lines[1])
    say(entry)
    dialog.first = plain
    assert dialog.bye().code == 200
    check_audio(play.archived(dialog), entry, channels=2)


@scenario(*ALL)
def labels_are_echoed_whatever_they_are(play: Play) -> None:
    client = play.client()
    labels = ("left-17_x.y", "16777227")
    scene = play.scene(client, labels=labels)
    recorded_whole(play, rfc7865.invite(scene), labels=labels)


@scenario("udp", "tcp")
def a_line_that_cannot_be_recorded_is_refused_and_the_others_keep_their_place(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    video = "m=video 42000 RTP/AVP 96\na=rtpmap:96 H264/90000\na=label:9\na=sendonly"
    strange = audio(42_010, "97", "rtpmap:97 NOBODYKNOWS/8000", "label:3", "sendonly")
    offered = offer(scene, labels=("1",), extra=(video, strange))
    offered += offer(scene, labels=("4",)).partition(b"t=0 0\r\n")[2]
    dialog = play.taken(with_body(headers(scene), offered=offered), client)
    lines = dialog.lines
    assert [bool(line.port) for line in lines] == [True, False, False, True]
    assert dialog.response is not None
    assert re.findall(r"(?m)^m=(\w+)", dialog.response.body.decode()) == ["audio", "video", "audio", "audio"]
    assert (lines[0].label, lines[3].label) == ("1", "4")
    talks = [talk(lines[0]), talk(lines[3])]
    say(*talks)
    dialog.bye()
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario("tcp")
def no_line_that_can_be_recorded_is_488(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    strange = audio(42_010, "97", "rtpmap:97 NOBODYKNOWS/8000", "label:1", "sendonly")
    dialog = play.dialog(client)
    reply = dialog.send(with_body(headers(scene), offered=offer(scene, labels=(), extra=(strange,))))
    assert reply.code == 488
    play.stage.refused(dialog.call_id)


@scenario("udp")
def a_line_that_was_closed_in_the_offer_stays_closed(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(with_body(headers(scene), offered=offer(scene, closed=(0,))), client)
    assert [bool(line.port) for line in dialog.lines] == [False, True]
    entry = talk(dialog.lines[1])
    say(entry)
    dialog.bye()
    check_audio(play.archived(dialog), entry, channels=1)


@scenario("udp", "tcp")
def an_inactive_offer_is_answered_inactive_and_heard_once_it_is_active(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene, direction="inactive"), client)
    assert [line.direction for line in dialog.lines] == ["inactive", "inactive"]
    assert dialog.send(rfc7865.invite(scene)).code == 200
    assert [line.direction for line in dialog.lines] == ["recvonly", "recvonly"]
    talks = spoken(dialog)
    dialog.bye()
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario("udp")
def a_line_offered_both_ways_is_taken_receive_only(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene, direction="sendrecv"), client)
    assert dialog.response is not None
    check_answer(dialog.response, offered_labels=("96", "97"))
    say(talk(dialog.lines[0]))
    dialog.bye()


@scenario(*ALL)
def a_late_offer_is_answered_with_ours_and_the_ack_has_the_answer(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(cisco_bib.invite(scene), client, ack=cisco_bib.ack_answer(scene))
    (line,) = dialog.lines
    assert line.direction == "recvonly"
    assert {0, 8, 101} <= set(line.payload_types)
    entry = talk(line.__class__(port=line.port, payload_types=(8,), direction="", label=""))
    say(entry)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, entry, channels=1)
    assert offers(recorded)[0].startswith(b"INVITE ")


@scenario("tcp")
def a_late_offer_with_metadata_gets_a_line_per_stream(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    full = rfc7865.invite(scene)
    request = with_body(full.headers, metadata=rfc7865.complete(scene))
    answer = rfc7865.offer(scene, lines=2)
    dialog = play.taken(request, client, ack=answer)
    assert len(dialog.lines) == 2
    talks = [
        talk(line.__class__(port=line.port, payload_types=(8,), direction="", label=""))
        for line in dialog.lines
    ]
    say(*talks)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert numbers(recorded) == [scene.caller, scene.callee]


@scenario("udp", "tcp")
def an_ack_without_the_answer_to_our_offer_leaves_nothing_open(play: Play) -> None:
    client = play.client()
    dialog = play.taken(cisco_bib.invite(play.scene(client)), client)
    assert dialog.bye().code in (200, 481)  # 481 where we hung up first


@scenario(*ALL)
def options_tells_that_we_take_sessions(play: Play) -> None:
    assert play.client().options().code == 200


@scenario("udp")
def an_unknown_required_extension_is_420_and_named(play: Play) -> None:
    client = play.client()
    request = header_changed(rfc7865.invite(play.scene(client)), "Require", "siprec, x-unheard-of")
    dialog = play.dialog(client)
    reply = dialog.send(request)
    assert reply.code == 420
    assert "x-unheard-of" in reply.header("Unsupported")
    play.stage.refused(dialog.call_id)


@scenario("tcp")
def a_body_of_an_unknown_type_is_refused_with_a_4xx(play: Play) -> None:
    client = play.client()
    request = FieldRequest(
        method="INVITE", headers=headers(play.scene(client)), content_type="text/plain", body=b"hello"
    )
    dialog = play.dialog(client)
    assert 400 <= dialog.send(request).code < 500
    play.stage.refused(dialog.call_id)


@scenario("tcp")
def a_multipart_without_its_end_is_refused_or_read_and_never_breaks(play: Play) -> None:
    client = play.client()
    plain = rfc7865.invite(play.scene(client))
    boundary = plain.content_type.partition("boundary=")[2].encode()
    request = body_changed(plain, b"\r\n--" + boundary + b"--\r\n", b"\r\n")
    dialog = play.dialog(client)
    reply = dialog.send(request)
    assert reply.code == 200 or 400 <= reply.code < 500
    if reply.code == 200:
        assert [line.label for line in answer_lines(reply.body)] == ["96", "97"]
        dialog.bye()


@scenario("udp", "tcp", "tls")
def an_invite_of_forty_kilobytes_is_taken_and_kept_whole(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    note = "<mydata xmlns='http://example.com/my'><structure>" + "x" * 40_000 + "</structure></mydata>"
    plain = rfc7865.invite(scene)
    request = body_changed(plain, b"</datamode>", b"</datamode>" + note.encode())
    recorded_whole(play, request, labels=("96", "97"))
