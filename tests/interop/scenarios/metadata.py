"""Who is on the call: documents complete and partial, in INVITE, re-INVITE and UPDATE (RFC 7866, 9)."""

from __future__ import annotations

import queue

from tests.interop.offers import body_changed, header_changed, headers, metadata_alone, offer, with_body
from tests.interop.stage import Play, check_audio, number_on, numbers, offers, say, scenario, spoken, talk
from tests.support.field import rfc7865
from tests.support.field.request import METADATA
from tests.support.sip_client import SipClient
from tests.support.sip_dialog import Dialog

REQUEST_TYPE = "application/rs-metadata-request"


def other_requests(client: SipClient, dialog: Dialog) -> list[str]:
    """What the recorder asked so far in a dialog, without waiting."""
    seen = []
    while True:
        try:
            message = client.requests.get_nowait()
        except queue.Empty:
            return seen
        if message.header("Call-ID") == dialog.call_id and message.method != "ACK":
            seen.append(f"{message.method} {message.header('Content-Type')}")


@scenario("udp", "tcp", "tls")
def an_update_with_metadata_alone_says_who_is_on_the_call(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    document = rfc7865.partial_renamed(scene, name="Somebody Else", number=scene.third)
    assert dialog.send(rfc7865.update_alone(scene, document)).code == 200
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert numbers(recorded) == [scene.caller, scene.third]
    assert recorded.manifest["participants"][1]["name"] == "Somebody Else"
    assert document in offers(recorded)[-1]


@scenario("tcp")
def an_update_with_metadata_in_a_multipart_of_one_is_the_same(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    renamed = play.scene(client, callee=scene.third)
    update = metadata_alone(rfc7865.invite(renamed), multipart_body=True)
    assert dialog.send(update).code == 200
    say(talk(dialog.lines[0]))
    dialog.bye()
    assert numbers(play.archived(dialog)) == [scene.caller, scene.third]


@scenario("udp")
def a_reinvite_with_a_partial_document_keeps_what_it_does_not_name(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    request = with_body(
        headers(scene),
        offered=rfc7865.offer(scene, lines=2),
        metadata=rfc7865.partial_renamed(scene, name="Paula", number=scene.third),
    )
    assert dialog.send(request).code == 200
    say(talk(dialog.lines[1]))
    dialog.bye()
    recorded = play.archived(dialog)
    assert numbers(recorded) == [scene.caller, scene.third]
    assert number_on(recorded, 1) == [scene.third]


@scenario("tcp")
def a_participant_who_left_stays_in_the_manifest(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    talks = spoken(dialog)
    assert dialog.send(rfc7865.update_alone(scene, rfc7865.partial_left(scene))).code == 200
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert numbers(recorded) == [scene.caller, scene.callee]


@scenario("udp", "tcp")
def a_document_with_unknown_references_makes_us_ask_for_the_whole_once(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    for _ in range(2):
        assert dialog.send(rfc7865.update_alone(scene, rfc7865.partial_unknown(scene))).code == 200
    asked = client.wait_request("UPDATE")
    assert asked.header("Content-Type") == REQUEST_TYPE
    assert asked.header("Content-Disposition").startswith("recording-session")
    assert asked.header("Call-ID") == dialog.call_id
    whole = rfc7865.update_alone(scene, rfc7865.complete(play.scene(client, callee=scene.third)))
    assert dialog.send(whole).code == 200
    talks = spoken(dialog)
    dialog.bye()
    assert other_requests(client, dialog) == []
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert numbers(recorded) == [scene.caller, scene.third]


@scenario("tcp", "tls")
def a_session_that_begins_with_a_part_makes_us_ask_for_the_whole(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    request = with_body(
        headers(scene),
        offered=rfc7865.offer(scene, lines=2),
        metadata=rfc7865.complete(scene).replace(b"complete</datamode>", b"partial</datamode>"),
    )
    dialog = play.taken(request, client)
    asked = client.wait_request("UPDATE")
    assert asked.header("Content-Type") == REQUEST_TYPE
    assert dialog.send(rfc7865.update_alone(scene, rfc7865.complete(scene))).code == 200
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert numbers(recorded) == [scene.caller, scene.callee]


@scenario("udp", "tcp")
def metadata_that_cannot_be_read_is_asked_for_again_and_the_call_recorded(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    request = body_changed(rfc7865.invite(scene), b"</recording>", b"</recor")
    before = play.events().get("malformed_metadata", 0)
    dialog = play.taken(request, client)
    assert client.wait_request("UPDATE").header("Content-Type") == REQUEST_TYPE
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert request.body in offers(recorded)[0]
    assert play.events()["malformed_metadata"] > before


@scenario("tcp")
def a_client_that_refuses_the_request_for_metadata_is_recorded_all_the_same(play: Play) -> None:
    client = play.client()
    client.answers["UPDATE"] = 488
    scene = play.scene(client)
    dialog = play.taken(body_changed(rfc7865.invite(scene), b"</recording>", b"</recor"), client)
    client.wait_request("UPDATE")
    talks = spoken(dialog)
    assert dialog.bye().code == 200
    assert other_requests(client, dialog) == []
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario("udp")
def metadata_with_entities_is_never_expanded_and_the_call_recorded(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    bomb = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]>'
    document = rfc7865.complete(scene).replace(b"?>", b"?>" + bomb, 1).replace(b"Bob B", b"&b;")
    request = with_body(headers(scene), offered=rfc7865.offer(scene, lines=2), metadata=document)
    dialog = play.taken(request, client)
    say(talk(dialog.lines[0]))
    dialog.bye()
    assert b"aaaaaaaaaa" not in play.archived(dialog).manifest_path.read_bytes()


@scenario("udp", "tcp")
def siprec_without_metadata_is_recorded_on_two_channels(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(with_body(headers(scene), offered=offer(scene)), client)
    assert [line.label for line in dialog.lines] == ["1", "2"]
    talks = spoken(dialog)
    dialog.bye()
    places = check_audio(play.archived(dialog), *talks, channels=2)
    assert [channel for channel, _ in places] == [0, 1]


@scenario("udp")
def siprec_without_labels_maps_streams_to_parties_by_place(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    request = with_body(
        headers(scene), offered=offer(scene, labels=("", "")), metadata=rfc7865.complete(scene)
    )
    dialog = play.taken(request, client)
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert (number_on(recorded, 0), number_on(recorded, 1)) == ([scene.caller], [scene.callee])


@scenario("tcp")
def siprec_without_the_contact_feature_is_taken(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    request = with_body(
        headers(scene, contact=""), offered=rfc7865.offer(scene, lines=2), metadata=rfc7865.complete(scene)
    )
    dialog = play.taken(request, client)
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert recorded.manifest["call"]["origin"] == "siprec"


@scenario("tcp")
def siprec_known_by_its_body_alone_is_siprec(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    request = with_body(
        headers(scene, contact="", require=""),
        offered=rfc7865.offer(scene, lines=2),
        metadata=rfc7865.complete(scene),
    )
    dialog = play.taken(header_changed(request, "Supported", "timer"), client)
    say(talk(dialog.lines[0]))
    dialog.bye()
    recorded = play.archived(dialog)
    assert recorded.manifest["call"]["origin"] == "siprec"
    assert numbers(recorded) == [scene.caller, scene.callee]


@scenario("udp")
def an_update_with_metadata_that_cannot_be_read_is_answered_and_changes_nothing(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    reply = dialog.send(rfc7865.update_alone(scene, b"<recording", metadata_type=METADATA))
    assert reply.code == 200 or 400 <= reply.code < 500
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert numbers(recorded) == [scene.caller, scene.callee]
