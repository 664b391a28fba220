"""The ten quirks of real clients, each as its client sends it."""

from __future__ import annotations

import os
import time

from tests.interop.heard import check_heard
from tests.interop.offers import header_changed, headers, offer, with_body
from tests.interop.stage import (
    ALL,
    RULED,
    Play,
    Talk,
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
from tests.support.field import (
    avaya_sbce,
    broadworks,
    cisco_bib,
    cisco_cube,
    metaswitch,
    oracle_acme,
    ribbon_sonus,
    small_clients,
    webex,
)
from tests.support.field.request import FieldRequest
from tests.support.rtp_sender import RtpStream, Script
from tests.support.sip_text import AnswerLine

SILENCE_S = 0.8


def call_of_two(play: Play, request: FieldRequest, *, labels: tuple[str, str] = ("", "")) -> list[list[str]]:
    """Play a plain call of a client and judge it; returns who is on which channel."""
    client = play.client()
    dialog = play.taken(request, client)
    assert dialog.response is not None
    check_answer(dialog.response, offered_labels=labels)
    talks = spoken(dialog)
    assert dialog.bye().code == 200
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert request.body in offers(recorded)[0]
    return [number_on(recorded, channel) for channel in range(2)]


# --- 1: BroadWorks ------------------------------------------------------------------------------------


@scenario(*ALL)
def broadworks_mixes_both_parties_into_one_line(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(broadworks.invite(scene), client)
    assert dialog.response is not None
    check_answer(dialog.response, offered_labels=("1",))
    entry = talk(dialog.lines[0])
    say(entry)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, entry, channels=1)
    assert numbers(recorded) == [scene.caller, scene.callee]
    assert number_on(recorded, 0) == [scene.caller, scene.callee]
    assert recorded.manifest["call"]["origin"] == "siprec"


@scenario("udp", "tcp")
def broadworks_sends_two_lines_without_direction(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    who = call_of_two(play, broadworks.invite(scene, mixed=False), labels=("1", "2"))
    assert who == [[scene.caller], [scene.callee]]


@scenario("udp", "tcp", house=RULED)
def broadworks_pauses_by_an_address_of_zeros(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(broadworks.invite(scene, mixed=False), client)
    before = spoken(dialog)
    time.sleep(1.0)  # what was said is rendered: the pause takes nothing of it back
    assert dialog.send(broadworks.pause(scene, mixed=False)).code == 200
    hidden = [talk(line, after=old) for line, old in zip(dialog.lines, before, strict=True)]
    say(*hidden)  # a client that goes on sending all the same
    time.sleep(0.1)  # the last packet lasts on; what follows the resumption may be heard
    assert dialog.send(broadworks.resume(scene, mixed=False)).code == 200
    time.sleep(0.2)
    after = spoken(dialog, after=hidden)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *before, *after, channels=2)
    assert len(offers(recorded)) == 3
    controls = [entry["action"] for entry in recorded.manifest["controls"]]
    assert controls.count("pause") == 1
    assert controls.count("resume") == 1


@scenario("udp")
def broadworks_pauses_a_recording_whose_rule_knows_no_pause_and_it_goes_on(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(broadworks.invite(scene), client)
    before = talk(dialog.lines[0])
    say(before)
    assert dialog.send(broadworks.pause(scene)).code == 200
    after = talk(dialog.lines[0], after=before)
    say(after)
    assert dialog.bye().code == 200
    check_audio(play.archived(dialog), before, after, channels=1)


# --- 2: Webex Calling -----------------------------------------------------------------------------------


@scenario("udp", "tcp", "tls")
def webex_offers_many_codecs_and_becomes_a_conference(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(webex.invite(scene), client)
    assert dialog.response is not None
    check_answer(dialog.response, offered_labels=("1", "2"))
    ports = [line.port for line in dialog.lines]
    before = spoken(dialog)
    assert dialog.send(webex.before_conference(scene)).code == 200
    assert {line.direction for line in dialog.lines} == {"inactive"}
    assert dialog.send(webex.conference(scene)).code == 200
    assert [line.port for line in dialog.lines] == ports
    after = spoken(dialog, after=before)
    dialog.bye()
    recorded = play.archived(dialog)
    check_heard(recorded, *before, *after, channels=2, rate_hz=48_000)  # Opus came first, PCMU was sent
    assert numbers(recorded) == [scene.caller, scene.callee, scene.third]
    assert number_on(recorded, 1) == [scene.callee, scene.third]
    assert len(offers(recorded)) == 3


# --- 3: Cisco built-in bridge ---------------------------------------------------------------------------


@scenario(*ALL)
def cisco_near_and_far_end_are_one_recording_of_two_channels(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    near = play.taken(cisco_bib.invite(scene), client, ack=cisco_bib.ack_answer(scene))
    far = play.taken(cisco_bib.invite(scene, end="far"), client, ack=cisco_bib.ack_answer(scene, end="far"))
    talks = [_pcma(dialog.lines[0]) for dialog in (near, far)]
    say(*talks)
    near.bye()
    far.bye()
    recorded = play.archived(near)
    assert play.archived(far).folder == recorded.folder
    places = check_audio(recorded, *talks, channels=2)
    assert sorted(channel for channel, _ in places) == [0, 1]
    assert {recorded.manifest["call"]["caller"], recorded.manifest["call"]["callee"]} == {
        scene.caller,
        scene.callee,
    }
    assert len(offers(recorded)) >= 2


@scenario("udp")
def cisco_two_calls_at_once_stay_two_recordings(play: Play) -> None:
    client = play.client()
    one, two = play.scene(client), play.scene(client, call=play.name + "b")
    dialogs, talks = [], []
    for scene in (one, two):
        for end in ("near", "far"):
            answer = cisco_bib.ack_answer(scene, end=end)
            dialogs.append(play.taken(cisco_bib.invite(scene, end=end), client, ack=answer))
            talks.append(_pcma(dialogs[-1].lines[0]))
    say(*talks)
    for dialog in dialogs:
        dialog.bye()
    first, second = play.archived(dialogs[0]), play.archived(dialogs[2])
    assert first.folder != second.folder
    check_audio(first, *talks[:2], channels=2)
    check_audio(second, *talks[2:], channels=2)


@scenario("tcp")
def cisco_far_end_becomes_somebody_else_by_an_update_without_a_body(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    near = play.taken(cisco_bib.invite(scene), client, ack=cisco_bib.ack_answer(scene))
    before = _pcma(near.lines[0])
    say(before)
    assert near.send(cisco_bib.transferred(scene)).code == 200
    after = _pcma(near.lines[0], after=before)
    say(after)
    near.bye()
    check_audio(play.archived(near), before, after, channels=1)


# --- 4: Cisco CUBE ----------------------------------------------------------------------------------------


@scenario(*ALL)
def cube_forks_with_participants_in_headers(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    assert call_of_two(play, cisco_cube.invite(scene)) == [[scene.caller], [scene.callee]]


@scenario("udp", "tcp")
def cube_transfers_by_a_reinvite_with_another_participant(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(cisco_cube.invite(scene), client)
    ports = [line.port for line in dialog.lines]
    before = spoken(dialog)
    assert dialog.send(cisco_cube.transferred(scene)).code == 200
    assert [line.port for line in dialog.lines] == ports
    after = [talk(dialog.lines[0], after=before[0]), talk(dialog.lines[1])]
    say(*after)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *before, *after, channels=2)
    assert {scene.caller, scene.third} <= set(numbers(recorded))
    assert number_on(recorded, 1) == [scene.callee, scene.third]


@scenario("udp")
def cube_comfort_noise_is_no_voice(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(cisco_cube.invite(scene), client)
    before = talk(dialog.lines[0])
    say(before)
    noise = RtpStream(
        port=dialog.lines[0].port,
        payload_type=19,
        payload=b"\x40" * 3,
        octets_per_packet=1,
        ssrc=before.stream.ssrc,
        first_sequence=before.stream.first_sequence + before.stream.packets,
        first_timestamp=before.stream.first_timestamp + 160 * before.stream.packets,
    )
    say(Talk(stream=noise, law="PCMA"))
    after = talk(dialog.lines[0], after=before)
    after.stream.first_sequence += 3
    time.sleep(0.34)
    say(after)
    dialog.bye()
    places = check_audio(play.archived(dialog), before, after, channels=2)
    assert places[1][1] - places[0][1] == after.from_first


@scenario("udp", "tls")
def cube_siprec_holds_both_lines(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(cisco_cube.siprec_invite(scene), client)
    before = spoken(dialog)
    assert dialog.send(cisco_cube.siprec_hold(scene)).code == 200
    assert {line.direction for line in dialog.lines} == {"inactive"}
    time.sleep(0.3)
    assert dialog.send(cisco_cube.siprec_invite(scene)).code == 200
    after = spoken(dialog, after=before)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *before, *after, channels=2)
    assert numbers(recorded) == [scene.caller, scene.callee]


# --- 5: Oracle ----------------------------------------------------------------------------------------------


@scenario("udp", "tcp")
def oracle_writes_metadata_its_own_way(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    who = call_of_two(play, oracle_acme.invite(scene), labels=oracle_acme.LABELS)
    assert who == [[scene.caller], [scene.callee]]


@scenario(*ALL)
def oracle_adds_the_second_stream_when_the_callee_answers(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(oracle_acme.invite(scene, lines=1), client)
    early = talk(dialog.lines[0])
    say(early)
    port = dialog.lines[0].port
    assert dialog.send(oracle_acme.second_stream(scene)).code == 200
    assert dialog.lines[0].port == port
    both = [talk(dialog.lines[0], after=early), talk(dialog.lines[1])]
    say(*both)
    dialog.bye()
    recorded = play.archived(dialog)
    places = check_audio(recorded, early, *both, channels=2)
    assert [channel for channel, _ in places] == [0, 0, 1]
    assert (number_on(recorded, 0), number_on(recorded, 1)) == ([scene.caller], [scene.callee])


# --- 6: Ribbon ----------------------------------------------------------------------------------------------


@scenario("udp", "tcp")
def ribbon_is_believed_although_its_associations_look_swapped(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    who = call_of_two(play, ribbon_sonus.invite(scene), labels=("1", "2"))
    assert who == [[scene.callee], [scene.caller]]


@scenario("tcp")
def ribbon_dates_of_1970_do_not_date_the_recording(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(ribbon_sonus.invite(scene), client)
    say(talk(dialog.lines[0]))
    dialog.bye()
    recorded = play.archived(dialog)
    assert not recorded.manifest["started_at"].startswith("1970")
    assert numbers(recorded) == [scene.caller, scene.callee]


# --- 7: Avaya SBCE ------------------------------------------------------------------------------------------


@scenario(*ALL)
def avaya_tells_later_who_is_on_the_call(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(avaya_sbce.invite(scene), client)
    assert dialog.response is not None
    check_answer(dialog.response, offered_labels=avaya_sbce.LABELS)
    talks = spoken(dialog)
    assert dialog.send(avaya_sbce.update(scene)).code == 200
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert numbers(recorded) == [scene.caller, scene.callee]
    assert (number_on(recorded, 0), number_on(recorded, 1)) == ([scene.caller], [scene.callee])
    assert avaya_sbce.update(scene).body in offers(recorded)[-1]


# --- 8: Metaswitch ------------------------------------------------------------------------------------------


@scenario("udp", "tcp")
def metaswitch_sends_one_line_for_both_parties(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(metaswitch.invite(scene), client)
    assert dialog.response is not None
    check_answer(dialog.response, offered_labels=("1",))
    entry = talk(dialog.lines[0])
    say(entry)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, entry, channels=1)
    assert number_on(recorded, 0) == [scene.caller, scene.callee]


@scenario("tcp")
def metaswitch_makes_a_session_per_leg_of_a_three_way_call(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    later = play.scene(client, call=play.name + "b")
    one = play.taken(metaswitch.invite(scene, call_type="Originating"), client)
    first = talk(one.lines[0])
    say(first)
    two = play.taken(metaswitch.invite(later, parties=3), client)
    both = [talk(one.lines[0], after=first), talk(two.lines[0])]
    say(*both)
    one.bye()
    two.bye()
    check_audio(play.archived(one), first, both[0], channels=1)
    second = play.archived(two)
    check_audio(second, both[1], channels=1)
    assert numbers(second) == [scene.caller, scene.callee, scene.third]


# --- 9: small clients ---------------------------------------------------------------------------------------


@scenario(*ALL)
def opensips_gets_its_labels_zero_and_one_back(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    who = call_of_two(play, small_clients.opensips(scene), labels=("0", "1"))
    assert who == [[scene.caller], [scene.callee]]


@scenario("udp", "tcp")
def netsapiens_sends_no_rtp_before_the_answer_and_the_time_is_kept(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(small_clients.netsapiens(scene), client)
    assert [line.label for line in dialog.lines] == ["0", "1"]
    time.sleep(SILENCE_S)
    dialog.bye()
    recorded = play.archived(dialog)
    samples, _ = recorded.samples()
    assert not samples.any()
    assert duration_s(recorded) >= SILENCE_S - 0.1
    assert numbers(recorded) == [scene.caller, scene.callee]


@scenario("tcp", "tls")
def jambonz_gets_an_answer_that_is_no_multipart(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    who = call_of_two(play, small_clients.jambonz(scene), labels=("1", "2"))
    assert who == [[scene.caller], [scene.callee]]


@scenario("udp", "tcp")
def audiocodes_leaves_out_require_and_says_src(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    who = call_of_two(play, small_clients.audiocodes(scene), labels=("1", "2"))
    assert who == [[scene.caller], [scene.callee]]


@scenario("tcp")
def audiocodes_leaves_out_require_and_says_sip_src(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    request = small_clients.audiocodes(scene, contact=";+sip.src")
    assert call_of_two(play, request, labels=("1", "2")) == [[scene.caller], [scene.callee]]


@scenario("udp", "tls")
def sems_labels_lines_with_words_and_writes_addresses_without_scheme(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    who = call_of_two(play, small_clients.sems(scene), labels=("caller", "callee"))
    assert who == [[scene.caller], [scene.callee]]


# --- 10: any client -----------------------------------------------------------------------------------------


@scenario("udp", "tcp")
def a_new_ssrc_without_signalling_goes_on_in_the_same_channel(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(small_clients.opensips(scene), client)
    one = talk(dialog.lines[0])
    say(one)
    two = talk(dialog.lines[0])
    say(two)
    dialog.bye()
    recorded = play.archived(dialog)
    places = check_audio(recorded, one, two, channels=2)
    assert places[0][0] == places[1][0] == 0
    assert recorded.streams()[0]["ssrcs"] == [one.stream.ssrc, two.stream.ssrc]


@scenario("udp")
def rtp_of_a_stranger_beside_the_true_sender_is_not_recorded(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(small_clients.opensips(scene), client)
    mine = [talk(line, packets=60) for line in dialog.lines]
    stale = RtpStream(
        port=dialog.lines[0].port,
        payload_type=8,
        payload=os.urandom(160 * 3),
    )
    late = tuple(() if slot < 20 else (slot - 20,) for slot in range(23))
    stale.script = Script(slots=late, lost=frozenset())
    say(*mine, Talk(stream=stale, law="PCMA"))
    dialog.bye()
    check_audio(play.archived(dialog), *mine, channels=2)


@scenario("tcp")
def nothing_is_labelled_and_nothing_described(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    bare = with_body(headers(scene, contact="", require=""), offered=offer(scene, labels=("", "")))
    dialog = play.taken(header_changed(bare, "Allow", None), client)
    talks = spoken(dialog)
    dialog.bye()
    check_audio(play.archived(dialog), *talks, channels=2)


def _pcma(line: AnswerLine, *, after: Talk | None = None) -> Talk:
    """Speak A-law into a line that offers several codecs."""
    chosen = AnswerLine(port=line.port, payload_types=(8,), direction=line.direction, label=line.label)
    return talk(chosen, after=after)
