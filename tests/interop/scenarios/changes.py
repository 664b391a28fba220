"""A session that changes: lines added, removed, held, moved; re-INVITE and UPDATE; the same recording."""

from __future__ import annotations

import threading
import time

from tests.interop.offers import headers, offer, with_body
from tests.interop.stage import (
    ALL,
    PACKETS,
    RULED,
    Play,
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
from tests.support.field import rfc7865
from tests.support.field.request import Scene
from tests.support.sip_dialog import Dialog
from tests.support.sip_text import answer_lines


def begin(play: Play, **offered: object) -> tuple[Scene, Dialog]:
    """Start a session of plain lines, with the RFC's metadata."""
    client = play.client()
    scene = play.scene(client, labels=("1", "2", "3"))
    request = with_body(
        headers(scene),
        offered=offer(scene, **offered),  # type: ignore[arg-type]
        metadata=rfc7865.complete(scene),
    )
    return scene, play.taken(request, client)


@scenario(*ALL)
def a_reinvite_adds_a_line_and_a_participant(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    ports = [line.port for line in dialog.lines]
    first = spoken(dialog)
    assert dialog.send(rfc7865.third_joins(scene)).code == 200
    assert [line.port for line in dialog.lines[:2]] == ports
    assert [line.label for line in dialog.lines] == ["96", "97", "98"]
    third = talk(dialog.lines[2])
    say(third)
    dialog.bye()
    recorded = play.archived(dialog)
    places = check_audio(recorded, *first, third, channels=3)
    assert [channel for channel, _ in places] == [0, 1, 2]
    assert numbers(recorded) == [scene.caller, scene.callee, scene.third]
    assert number_on(recorded, 2) == [scene.third]
    assert len(offers(recorded)) == 2


@scenario("udp", "tcp")
def a_reinvite_that_closes_a_line_leaves_the_other_one_running(play: Play) -> None:
    scene, dialog = begin(play)
    ports = [line.port for line in dialog.lines]
    both = spoken(dialog)
    assert dialog.send(with_body(headers(scene), offered=offer(scene, closed=(1,)))).code == 200
    assert [line.port for line in dialog.lines] == [ports[0], 0]
    alone = talk(dialog.lines[0], after=both[0])
    say(alone)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *both, alone, channels=2)
    assert numbers(recorded) == [scene.caller, scene.callee]


@scenario("tcp")
def a_line_that_was_closed_can_be_opened_again(play: Play) -> None:
    scene, dialog = begin(play)
    first = talk(dialog.lines[1])
    say(first)
    assert dialog.send(with_body(headers(scene), offered=offer(scene, closed=(1,)))).code == 200
    assert dialog.send(with_body(headers(scene), offered=offer(scene))).code == 200
    assert dialog.lines[1].port
    again = talk(dialog.lines[1])
    say(again)
    dialog.bye()
    recorded = play.archived(dialog)
    places = check_audio(recorded, first, again, channels=2)
    assert places[0][0] == places[1][0]  # one label, one channel


@scenario(*ALL)
def hold_by_reinvite_keeps_the_time(play: Play) -> None:
    scene, dialog = begin(play)
    before = spoken(dialog)
    rest = with_body(headers(scene), offered=offer(scene, direction="inactive"))
    assert dialog.send(rest).code == 200
    assert {line.direction for line in dialog.lines} == {"inactive"}
    time.sleep(0.6)
    assert dialog.send(with_body(headers(scene), offered=offer(scene))).code == 200
    after = spoken(dialog, after=before)
    dialog.bye()
    recorded = play.archived(dialog)
    places = check_audio(recorded, *before, *after, channels=2)
    for old, new, said in zip(places[:2], places[2:], after, strict=True):
        assert new[1] - old[1] == said.from_first > 160 * (PACKETS + 30)


@scenario("udp", "tls")
def update_with_sdp_holds_and_resumes(play: Play) -> None:
    scene, dialog = begin(play)
    before = [talk(line) for line in dialog.lines]
    ports = [line.port for line in dialog.lines]
    say(*before)
    for direction, answered in (("inactive", "inactive"), ("sendonly", "recvonly")):
        offered = offer(scene, direction=direction)
        reply = dialog.send(with_body(headers(scene), method="UPDATE", offered=offered))
        assert reply.code == 200
        assert reply.body.count(f"a={answered}".encode()) == 2
        for port in ports:
            assert f"m=audio {port} ".encode() in reply.body
    after = spoken(dialog, after=before)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *before, *after, channels=2)


@scenario("tcp")
def update_with_sdp_and_metadata_adds_a_line(play: Play) -> None:
    scene, dialog = begin(play)
    request = with_body(
        headers(scene),
        method="UPDATE",
        offered=offer(scene, labels=("1", "2", "3")),
        metadata=rfc7865.partial_joined(scene),
    )
    reply = dialog.send(request)
    assert reply.code == 200
    assert reply.body.count(b"m=audio") == 3
    third = talk(answer_lines(reply.body)[2])
    say(third)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, third, channels=3)
    assert scene.third in numbers(recorded)


@scenario("udp", "tcp")
def a_reinvite_without_sdp_gets_our_current_lines_as_an_offer(play: Play) -> None:
    scene, dialog = begin(play)
    ports = [line.port for line in dialog.lines]
    before = spoken(dialog)
    reply = dialog.send(with_body(headers(scene)), ack=offer(scene))
    assert reply.code == 200
    assert [line.port for line in dialog.lines] == ports
    assert [line.label for line in dialog.lines] == ["1", "2"]
    after = spoken(dialog, after=before)
    dialog.bye()
    check_audio(play.archived(dialog), *before, *after, channels=2)


@scenario("udp", "tcp", house=RULED)
def a_hold_is_undone_by_a_reinvite_without_sdp(play: Play) -> None:
    scene, dialog = begin(play)
    before = spoken(dialog)
    time.sleep(1.0)
    assert dialog.send(with_body(headers(scene), offered=offer(scene, direction="inactive"))).code == 200
    hidden = spoken(dialog, after=before)
    assert dialog.send(with_body(headers(scene)), ack=offer(scene)).code == 200
    assert {line.direction for line in dialog.lines} == {"recvonly"}
    time.sleep(0.2)
    after = spoken(dialog, after=hidden)
    dialog.bye()
    check_audio(play.archived(dialog), *before, *after, channels=2)


@scenario("udp", "tcp", house=RULED)
def the_answer_to_an_offer_of_ours_may_hold_the_lines(play: Play) -> None:
    scene, dialog = begin(play)
    before = spoken(dialog)
    time.sleep(1.0)
    resting = offer(scene, direction="inactive")
    assert dialog.send(with_body(headers(scene)), ack=resting).code == 200
    hidden = spoken(dialog, after=before)
    assert dialog.send(with_body(headers(scene), offered=offer(scene))).code == 200
    time.sleep(0.2)
    after = spoken(dialog, after=hidden)
    dialog.bye()
    check_audio(play.archived(dialog), *before, *after, channels=2)


@scenario("tcp")
def an_answer_to_an_offer_of_ours_need_not_repeat_the_labels(play: Play) -> None:
    scene, dialog = begin(play, labels=("2", "1"))
    assert dialog.send(with_body(headers(scene)), ack=offer(scene, labels=("", ""))).code == 200
    again = with_body(headers(scene), method="UPDATE", metadata=rfc7865.complete(scene))
    assert dialog.send(again).code == 200
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    places = check_audio(recorded, *talks, channels=2)
    assert [number_on(recorded, channel) for channel, _ in places] == [[scene.callee], [scene.caller]]


@scenario("udp")
def a_stream_changes_its_codec(play: Play) -> None:
    scene, dialog = begin(play)
    before = spoken(dialog)
    codecs = ("PCMU", "PCMA")
    assert dialog.send(with_body(headers(scene), offered=offer(scene, codecs=codecs))).code == 200
    after = [talk(line, after=old) for line, old in zip(dialog.lines, before, strict=True)]
    assert (before[0].law, after[0].law) == ("PCMA", "PCMU")
    say(*after)
    dialog.bye()
    check_audio(play.archived(dialog), *before, *after, channels=2)


@scenario("tcp")
def a_stream_that_moves_to_another_port_of_the_client_stays_the_stream_it_was(play: Play) -> None:
    scene, dialog = begin(play)
    ports = [line.port for line in dialog.lines]
    before = talk(dialog.lines[0])
    say(before)
    moved = offer(scene).replace(b"m=audio 41000", b"m=audio 43000")
    assert dialog.send(with_body(headers(scene), offered=moved)).code == 200
    assert [line.port for line in dialog.lines] == ports
    after = talk(dialog.lines[0])  # from a new socket, with a new SSRC
    say(after)
    dialog.bye()
    places = check_audio(play.archived(dialog), before, after, channels=2)
    assert places[0][0] == places[1][0] == 0


@scenario("udp", "tcp")
def an_overlapping_reinvite_is_refused_and_the_recording_goes_on(play: Play) -> None:
    scene, dialog = begin(play)
    talks = [talk(line) for line in dialog.lines]
    speaking = threading.Thread(target=say, args=talks)
    speaking.start()
    again = with_body(headers(scene), offered=offer(scene))
    first = dialog.begin(again)
    reply = first.final()
    assert reply.code == 200
    second = dialog.begin(again)  # before the first one's ACK
    refused = second.final()
    assert refused.code in (491, 500)
    if refused.code == 500:
        assert 0 <= int(refused.header("Retry-After").split("(")[0]) <= 10
    dialog.acknowledge(second, refused)
    dialog.acknowledge(first, reply)
    speaking.join()
    dialog.bye()
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario(*ALL)
def a_reinvite_with_an_older_cseq_is_500_and_the_recording_goes_on(play: Play) -> None:
    scene, dialog = begin(play)
    dialog.cseq += 10
    assert dialog.send(with_body(headers(scene), offered=offer(scene))).code == 200
    talks = [talk(line) for line in dialog.lines]
    speaking = threading.Thread(target=say, args=talks)
    speaking.start()
    old = dialog.begin(with_body(headers(scene), offered=offer(scene)), cseq=3)
    reply = old.final()
    assert reply.code == 500
    dialog.acknowledge(old, reply)
    speaking.join()
    assert dialog.bye().code == 200
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario("tcp")
def a_reinvite_that_cannot_be_read_changes_nothing(play: Play) -> None:
    scene, dialog = begin(play)
    lines = dialog.lines
    broken = offer(scene).replace(b"m=audio 41000", b"m=audio 99999999")
    reply = dialog.send(with_body(headers(scene), offered=broken))
    assert 400 <= reply.code < 500
    talks = [talk(line) for line in lines]
    say(*talks)
    assert dialog.bye().code == 200
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario("tcp")
def eight_reinvites_in_a_row_are_one_recording_with_nine_offers(play: Play) -> None:
    scene, dialog = begin(play)
    ports = [line.port for line in dialog.lines]
    talks = [talk(line) for line in dialog.lines]
    speaking = threading.Thread(target=say, args=talks)
    speaking.start()
    for _ in range(8):
        assert dialog.send(with_body(headers(scene), offered=offer(scene))).code == 200
        assert [line.port for line in dialog.lines] == ports
    speaking.join()
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert len(offers(recorded)) == 9
    assert duration_s(recorded) < 3.0


@scenario("udp")
def a_conference_grows_to_five_and_shrinks_again(play: Play) -> None:
    scene, dialog = begin(play, labels=("1", "2"))
    labels = ("1", "2", "3", "4", "5")
    assert dialog.send(with_body(headers(scene), offered=offer(scene, labels=labels))).code == 200
    assert [line.label for line in dialog.lines] == list(labels)
    five = spoken(dialog)
    left = with_body(headers(scene), offered=offer(scene, labels=labels, closed=(2, 3, 4)))
    assert dialog.send(left).code == 200
    two = [talk(line, after=old) for line, old in zip(dialog.lines[:2], five[:2], strict=True)]
    say(*two)
    dialog.bye()
    places = check_audio(play.archived(dialog), *five, *two, channels=5)
    assert [channel for channel, _ in places[:5]] == [0, 1, 2, 3, 4]
