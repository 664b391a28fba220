"""Requests that control a recording, and rules that refuse one."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import numpy as np

from tests.interop.offers import header_changed, leg, with_body
from tests.interop.stage import ALL, RULED, Play, Talk, check_audio, say, scenario, spoken, talk
from tests.support.field import rfc7865
from tests.support.field.request import FieldRequest, Scene
from tests.support.house import Recorded
from tests.support.sip_dialog import Dialog

CONTROL = "X-Recording-Control"


class PausedCall:
    """A leg that says something before, during and after a pause."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.client = play.client()
        self.scene = play.scene(self.client)
        self.dialog = play.taken(leg(self.scene, name="caller", call_id=play.name), self.client)
        self.before = talk(self.dialog.lines[0])
        say(self.before)
        time.sleep(1.0)

    def during(self) -> None:
        """Say what nobody may hear."""
        hidden = talk(self.dialog.lines[0], after=self.before)
        say(hidden)
        time.sleep(0.1)  # its last packet lasts as long as it took to say it
        self.hidden = hidden

    def after(self) -> Recorded:
        """Say what is to be heard again, hang up, and check that nothing else is in the archive."""
        time.sleep(0.2)
        last = talk(self.dialog.lines[0], after=self.hidden)
        say(last)
        assert self.dialog.bye().code == 200
        recorded = self.play.archived(self.dialog)
        check_audio(recorded, self.before, last, channels=1)
        actions = [entry["action"] for entry in recorded.manifest["controls"]]
        assert actions.count("pause") == actions.count("resume") == 1
        return recorded


def out_of_dialog(call: PausedCall, body: bytes, *headers: tuple[str, str], user: str = "srs") -> int:
    """Send a MESSAGE that belongs to no dialog."""
    known = (
        ("From", f"<sip:{call.scene.caller}@{call.scene.address}>;tag=m1"),
        ("To", "<sip:recorder@192.0.2.99>"),
        *headers,
    )
    message = FieldRequest(method="MESSAGE", headers=known, content_type="text/plain", body=body)
    return Dialog(client=call.client, user=user).send(message).code


@scenario(*ALL, house=RULED)
def message_in_the_dialog_pauses_and_resumes(play: Play) -> None:
    call = PausedCall(play)
    assert call.dialog.ask("MESSAGE", body=b"action=pause", content_type="text/plain").code == 200
    call.during()
    assert call.dialog.ask("MESSAGE", body=b"action=resume", content_type="text/plain").code == 200
    call.after()


@scenario("udp", "tcp", house=RULED)
def info_in_the_dialog_pauses_and_resumes(play: Play) -> None:
    call = PausedCall(play)
    assert call.dialog.ask("INFO", headers=[(CONTROL, "pause")]).code == 200
    call.during()
    assert call.dialog.ask("INFO", headers=[(CONTROL, "resume")]).code == 200
    call.after()


@scenario("udp", "tls", house=RULED)
def notify_in_the_dialog_pauses_and_resumes(play: Play) -> None:
    call = PausedCall(play)
    event = [("Event", "recording"), ("Subscription-State", "active")]
    assert call.dialog.ask("NOTIFY", headers=[*event, (CONTROL, "pause")]).code == 200
    call.during()
    assert call.dialog.ask("NOTIFY", headers=[*event, (CONTROL, "resume")]).code == 200
    call.after()


@scenario("udp", "tcp", house=RULED)
def message_out_of_the_dialog_names_the_call(play: Play) -> None:
    call = PausedCall(play)
    assert out_of_dialog(call, b"action=pause", ("X-Call-ID", play.name)) == 200
    call.during()
    assert out_of_dialog(call, f"action=resume call={play.name}".encode()) == 200
    call.after()


@scenario("udp", "tcp", house=RULED)
def a_message_with_the_tag_of_no_dialog_of_ours_is_a_strangers(play: Play) -> None:
    call = PausedCall(play)
    for caller, code in (("19190", 403), (call.scene.caller, 200)):
        known = (
            ("From", f"<sip:{caller}@{call.scene.address}>;tag=m2"),
            ("To", "<sip:recorder@192.0.2.99>;tag=made-up"),
            ("X-Call-ID", play.name),
        )
        asked = FieldRequest(method="MESSAGE", headers=known, content_type="text/plain", body=b"action=pause")
        assert Dialog(client=call.client).send(asked).code == code
    call.during()
    assert call.dialog.ask("MESSAGE", body=b"action=resume", content_type="text/plain").code == 200
    call.after()


@scenario("udp", "tcp", house=RULED)
def an_update_or_reinvite_may_ask_for_a_pause(play: Play) -> None:
    call = PausedCall(play)
    again = leg(call.scene, name="caller", call_id=play.name)
    assert call.dialog.ask("UPDATE", headers=[(CONTROL, "frobnicate")]).code == 400
    assert call.dialog.ask("UPDATE", headers=[(CONTROL, "stop")]).code == 403
    assert call.dialog.ask("UPDATE", headers=[(CONTROL, "pause")]).code == 200
    call.during()
    assert call.dialog.send(header_changed(again, CONTROL, "resume")).code == 200
    call.after()


@scenario("udp", house=RULED)
def a_message_for_no_call_is_404_and_a_malformed_one_400(play: Play) -> None:
    call = PausedCall(play)
    assert out_of_dialog(call, b"action=pause", ("X-Call-ID", "no-such-call")) == 404
    assert out_of_dialog(call, b"action=frobnicate", ("X-Call-ID", play.name)) == 400
    assert call.dialog.ask("INFO", headers=[(CONTROL, "frobnicate")]).code == 400
    last = talk(call.dialog.lines[0], after=call.before)
    say(last)
    call.dialog.bye()
    check_audio(play.archived(call.dialog), call.before, last, channels=1)


@scenario("udp", "tcp")
def a_pause_that_the_rule_does_not_know_is_403_and_recording_goes_on(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(leg(scene, name="caller", call_id=play.name), client)
    before = talk(dialog.lines[0])
    say(before)
    reply = dialog.ask("INFO", headers=[(CONTROL, "pause")])
    assert reply.code == 403
    assert len(reply.start_line.split(" ", 2)[2]) > len("Forbidden")  # it says why
    after = talk(dialog.lines[0], after=before)
    say(after)
    dialog.bye()
    check_audio(play.archived(dialog), before, after, channels=1)


@scenario(*ALL)
def info_about_something_else_is_200_and_changes_nothing(play: Play) -> None:
    client = play.client()
    dialog = play.taken(rfc7865.invite(play.scene(client)), client)
    talks = spoken(dialog)
    media = b'<?xml version="1.0"?><media_control/>'
    reply = dialog.ask("INFO", body=media, content_type="application/media_control+xml")
    assert reply.code == 200
    assert dialog.ask("INFO").code == 200
    after = spoken(dialog, after=talks)
    dialog.bye()
    check_audio(play.archived(dialog), *talks, *after, channels=2)


@scenario("udp", "tcp", house=RULED)
def a_pause_by_all_lines_inactive_is_undone_by_active_ones(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    before = spoken(dialog)
    time.sleep(1.0)
    assert dialog.send(rfc7865.invite(scene, direction="inactive")).code == 200
    hidden = spoken(dialog, after=before)
    assert dialog.send(rfc7865.invite(scene)).code == 200
    time.sleep(0.2)
    after = spoken(dialog, after=hidden)
    dialog.bye()
    check_audio(play.archived(dialog), *before, *after, channels=2)


@scenario("udp", "tcp", house=RULED)
def a_pause_that_is_asked_for_during_a_hold_outlasts_it(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    before = spoken(dialog)
    time.sleep(1.0)
    assert dialog.send(rfc7865.invite(scene, direction="inactive")).code == 200
    assert dialog.ask("MESSAGE", body=b"action=pause", content_type="text/plain").code == 200
    assert dialog.send(rfc7865.invite(scene)).code == 200
    spoken(dialog, after=before)
    dialog.bye()
    check_audio(play.archived(dialog), *before, channels=2)


@scenario("udp", "tcp", "tls", house=RULED)
def a_feature_code_is_answered_spoken_to_and_hung_up(play: Play) -> None:
    call = PausedCall(play)
    heard = _call_code(play, call, "*48")
    call.during()
    assert _call_code(play, call, "%2A49") != heard
    call.after()


@scenario("udp", house=RULED)
def a_feature_code_for_no_call_says_so(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.dialog(client, user="*48")
    reply = dialog.send(leg(scene))
    assert reply.code in (200, 404)
    if reply.code == 200:
        client.wait_request("BYE", timeout_s=20)


@scenario("udp")
def an_unknown_feature_code_is_404(play: Play) -> None:
    client = play.client()
    dialog = play.dialog(client, user="*99")
    assert dialog.send(leg(play.scene(client))).code == 404
    play.stage.refused(dialog.call_id)


@scenario(*ALL, house=RULED)
def a_call_that_no_rule_wants_is_declined(play: Play) -> None:
    client = play.client()
    scene = play.scene(client, callee="9" + play.name[:6])
    dialog = play.dialog(client)
    reply = dialog.send(leg(scene, name="caller", call_id=play.name))
    assert reply.code == 603
    play.stage.refused(dialog.call_id)
    assert play.events()["session_not_recorded"] > 0


@scenario("udp", "tcp", house=RULED)
def the_manifest_names_the_rule_that_decided(play: Play) -> None:
    client = play.client()
    for callee, rule in (("7" + play.name[:5], "fixed"), ("8" + play.name[:5], "must")):
        scene = play.scene(client, callee=callee)
        dialog = play.taken(leg(scene, name="caller", call_id=play.name + rule), client)
        entry = talk(dialog.lines[0])
        say(entry)
        dialog.bye()
        recorded = play.archived(dialog)
        check_audio(recorded, entry, channels=1)
        assert recorded.manifest["rule"]["name"] == rule


@scenario("udp")
def a_siprec_pause_is_asked_by_recordpref_and_kept_out_of_a_rule_without_pause(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    before = spoken(dialog)
    wish = rfc7865.offer(scene, lines=2).replace(b"a=sendonly", b"a=sendonly\r\na=recordpref:pause")
    request = header_changed(rfc7865.invite(scene), "Supported", "record-aware")
    assert dialog.send(with_body(request.headers, offered=wish)).code == 200
    after = spoken(dialog, after=before)
    dialog.bye()
    check_audio(play.archived(dialog), *before, *after, channels=2)


def _aware(scene: Scene, *preferences: str) -> FieldRequest:
    """Offer two lines, each with what its party wants of the recording."""
    wish = rfc7865.offer(scene, lines=2)
    for preference in preferences:
        wish = wish.replace(b"a=sendonly", f"a=recordpref:{preference}\r\na=SENDONLY".encode(), 1)
    request = header_changed(rfc7865.invite(scene), "Supported", "record-aware")
    return with_body(request.headers, offered=wish.replace(b"SENDONLY", b"sendonly"))


@scenario("udp", "tcp", house=RULED)
def a_party_that_wants_a_pause_goes_before_one_that_wants_none(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    before = spoken(dialog)
    time.sleep(1.0)
    hidden: list[Talk] = before
    for preferences in (("on", "pause"), ("pause", "on"), ("on", "pause")):
        assert dialog.send(_aware(scene, *preferences)).code == 200
        hidden = [talk(line, after=old) for line, old in zip(dialog.lines, hidden, strict=True)]
        say(*hidden)
    dialog.bye()
    check_audio(play.archived(dialog), *before, channels=2)


@scenario("udp", "tcp", house=RULED)
def a_refresh_that_repeats_a_preference_ends_no_pause(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(rfc7865.invite(scene), client)
    assert dialog.send(_aware(scene, "on", "on")).code == 200
    before = spoken(dialog)
    time.sleep(1.0)
    assert dialog.ask("MESSAGE", body=b"action=pause", content_type="text/plain").code == 200
    assert dialog.send(_aware(scene, "on", "on")).code == 200
    spoken(dialog, after=before)
    dialog.bye()
    check_audio(play.archived(dialog), *before, channels=2)


def _call_code(play: Play, call: PausedCall, code: str) -> bytes:
    """Dial a feature code, listen to what is said, and be hung up on; returns what was heard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(0.5)
        request = leg(call.scene, name="caller", call_id=play.name)
        body = request.body.replace(b"m=audio 41000", f"m=audio {ear.getsockname()[1]}".encode())
        dialog = play.dialog(call.client, user=code)
        reply = dialog.send(replace(request, body=body))
        assert reply.code == 200, reply.start_line
        heard = bytearray()
        deadline = time.monotonic() + 20
        over = False
        while time.monotonic() < deadline and not over:
            try:
                packet, source = ear.recvfrom(2000)
            except TimeoutError:
                over = bool(heard)
                continue
            assert source[1] == dialog.lines[0].port
            heard += packet[12:]
        bye = call.client.wait_request("BYE")
        assert bye.header("Call-ID") == dialog.call_id
    assert len(heard) > 8000 * 0.3
    assert np.unique(np.frombuffer(bytes(heard), dtype=np.uint8)).size > 20  # speech, no tone, no silence
    return bytes(heard)
