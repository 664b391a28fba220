"""Session timers, 100rel, CANCEL, retransmissions: the parts of SIP that bite recorders."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.interop.offers import header_changed, headers, offer, with_body
from tests.interop.stage import ALL, Play, check_audio, duration_s, offers, scenario, spoken
from tests.support.field import rfc7865
from tests.support.field.request import FieldRequest
from tests.support.sip_client import SipClient
from tests.support.sip_dialog import Dialog
from tests.support.sip_text import Message


def with_timer(play: Play, client: SipClient, **fields: str) -> FieldRequest:
    """A call of two parties with session timer headers."""
    request = rfc7865.invite(play.scene(client))
    for name, value in fields.items():
        request = header_changed(request, name.replace("_", "-"), value)
    return request


def taken_and_recorded(play: Play, client: SipClient, request: FieldRequest) -> Message:
    """The call is taken and recorded; returns the answer."""
    dialog = play.taken(request, client)
    talks = spoken(dialog)
    dialog.bye()
    check_audio(play.archived(dialog), *talks, channels=2)
    assert dialog.response is not None
    return dialog.response


@scenario("udp", "tcp")
def the_client_refreshes_the_session_and_never_we(play: Play) -> None:
    client = play.client()
    request = with_timer(play, client, Supported="timer", Session_Expires="1800", Min_SE="90")
    reply = taken_and_recorded(play, client, request)
    assert "refresher=uac" in reply.header("Session-Expires").replace(" ", "").lower()
    assert "timer" in reply.header("Require").lower()


@scenario("udp", "tls")
def a_client_that_wants_us_to_refresh_gets_no_timer(play: Play) -> None:
    client = play.client()
    request = with_timer(play, client, Supported="timer", Session_Expires="1800;refresher=uas")
    reply = taken_and_recorded(play, client, request)
    assert not reply.header("Session-Expires")


@scenario("tcp")
def a_client_without_timers_gets_none(play: Play) -> None:
    client = play.client()
    reply = taken_and_recorded(play, client, with_timer(play, client, Session_Expires="1800"))
    assert not reply.header("Session-Expires")


@scenario("udp", "tcp")
def a_session_timer_that_is_too_short_is_422_with_min_se(play: Play) -> None:
    client = play.client()
    dialog = play.dialog(client)
    reply = dialog.send(with_timer(play, client, Supported="timer", Session_Expires="30"))
    assert reply.code == 422
    assert int(reply.header("Min-SE").split(";")[0]) >= 90
    play.stage.refused(dialog.call_id)


@scenario("udp")
def a_refresh_by_update_without_a_body_is_answered_and_changes_nothing(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    request = header_changed(rfc7865.invite(scene), "Supported", "timer")
    dialog = play.taken(header_changed(request, "Session-Expires", "1800;refresher=uac"), client)
    talks = spoken(dialog)
    refresh = [("Supported", "timer"), ("Session-Expires", "1800;refresher=uac")]
    assert dialog.ask("UPDATE", headers=refresh).code == 200
    after = spoken(dialog, after=talks)
    dialog.bye()
    check_audio(play.archived(dialog), *talks, *after, channels=2)


@scenario(*ALL)
def required_100rel_is_met_and_nothing_provisional_needs_a_prack(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    request = header_changed(rfc7865.invite(scene), "Require", "siprec, 100rel")
    dialog = play.dialog(client)
    transaction = dialog.begin(header_changed(request, "Supported", "100rel"))
    reply = transaction.final()
    assert reply.code == 200
    assert {message.code for message in transaction.provisional} <= {100}
    dialog.acknowledge(transaction, reply)
    talks = spoken(dialog)
    dialog.bye()
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario("udp")
def a_prack_for_nothing_is_refused_and_harmless(play: Play) -> None:
    client = play.client()
    dialog = play.taken(rfc7865.invite(play.scene(client)), client)
    assert 400 <= dialog.ask("PRACK", headers=[("RAck", "1 1 INVITE")]).code < 500
    talks = spoken(dialog)
    assert dialog.bye().code == 200
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario(*ALL)
def cancel_with_the_invite_leaves_nothing_open(play: Play) -> None:
    client = play.client()
    for _ in range(4):
        dialog = play.dialog(client)
        invite = dialog.begin(rfc7865.invite(play.scene(client)))
        cancel = dialog.cancel(invite)
        assert cancel.final().code in (200, 481)
        reply = invite.final()
        assert reply.code in (200, 487)
        dialog.acknowledge(invite, reply)
        if reply.code == 200:
            assert dialog.bye().code == 200
        else:
            play.stage.refused(dialog.call_id)


@scenario("udp", "tcp")
def cancel_after_the_answer_changes_nothing(play: Play) -> None:
    client = play.client()
    dialog = play.dialog(client)
    invite = dialog.begin(rfc7865.invite(play.scene(client)))
    reply = invite.final()
    assert reply.code == 200
    assert dialog.cancel(invite).final().code in (200, 481)
    dialog.acknowledge(invite, reply)
    talks = spoken(dialog)
    assert dialog.bye().code == 200
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario("udp", "tcp")
def cancel_of_an_unknown_transaction_is_481(play: Play) -> None:
    client = play.client()
    dialog = play.dialog(client)
    request = rfc7865.invite(play.scene(client))
    reply = client.request("CANCEL", call_id=dialog.call_id, cseq=7, headers=list(request.headers[:3]))
    assert reply.code == 481


@scenario("udp")
def an_invite_that_comes_three_times_is_one_recording(play: Play) -> None:
    client = play.client()
    dialog = play.dialog(client)
    invite = dialog.begin(rfc7865.invite(play.scene(client)))
    client.send_raw(invite.raw)
    reply = invite.final()
    client.send_raw(invite.raw)
    dialog.acknowledge(invite, reply)
    talks = spoken(dialog)
    dialog.bye()
    recorded = play.archived(dialog)
    check_audio(recorded, *talks, channels=2)
    assert len(offers(recorded)) == 1


@scenario("udp")
def bye_in_place_of_the_ack_ends_the_session(play: Play) -> None:
    client = play.client()
    dialog = play.dialog(client)
    invite = dialog.begin(rfc7865.invite(play.scene(client)))
    reply = invite.final()
    dialog.to, dialog.target = reply.header("To"), ""
    dialog.response = reply
    assert dialog.bye().code == 200
    assert duration_s(play.archived(dialog)) < 3.0


@scenario("udp", "tcp", "tls")
def requests_of_an_unknown_dialog_are_481(play: Play) -> None:
    client = play.client()
    request = rfc7865.invite(play.scene(client))
    known = tuple((name, value + ";tag=nobody" if name == "To" else value) for name, value in request.headers)
    for method in ("BYE", "INFO", "UPDATE"):
        dialog = play.dialog(client)
        assert dialog.send(FieldRequest(method=method, headers=known[:3])).code == 481
    dialog = play.dialog(client)
    assert dialog.send(replace(request, headers=known)).code == 481
    play.stage.refused(dialog.call_id)


@scenario("tcp")
def a_method_nobody_knows_is_refused_in_and_out_of_a_dialog(play: Play) -> None:
    client = play.client()
    dialog = play.taken(rfc7865.invite(play.scene(client)), client)
    assert dialog.ask("FROBNICATE").code in (405, 501)
    alone = Dialog(client=client, first=dialog.first)
    assert alone.ask("FROBNICATE").code in (405, 501)
    talks = spoken(dialog)
    assert dialog.bye().code == 200
    check_audio(play.archived(dialog), *talks, channels=2)


@scenario("tcp")
def a_client_whose_connection_breaks_can_end_its_call_over_a_new_one(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    dialog = play.taken(with_body(headers(scene), offered=offer(scene)), client)
    talks = spoken(dialog)
    client.close()
    time.sleep(0.2)
    dialog.client = play.client()
    assert dialog.bye().code == 200
    check_audio(play.archived(dialog), *talks, channels=2)
