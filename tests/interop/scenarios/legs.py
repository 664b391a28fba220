"""Recording legs: what makes two dialogs one call, and what keeps them apart."""

from __future__ import annotations

import time

from tests.interop.offers import leg
from tests.interop.stage import ALL, Play, check_audio, offers, say, scenario, talk


@scenario(*ALL)
def two_legs_of_one_call_id_meet(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    caller = play.taken(leg(scene, name="caller", call_id=play.name), client)
    callee = play.taken(leg(scene, name="callee", call_id=play.name), client)
    talks = [talk(dialog.lines[0]) for dialog in (caller, callee)]
    say(*talks)
    caller.bye()
    callee.bye()
    recorded = play.archived(caller)
    assert play.archived(callee).folder == recorded.folder
    places = check_audio(recorded, *talks, channels=2)
    assert [channel for channel, _ in places] == [0, 1]
    assert (recorded.manifest["call"]["caller"], recorded.manifest["call"]["callee"]) == (
        scene.caller,
        scene.callee,
    )
    assert len(offers(recorded)) == 2


@scenario("udp", "tcp")
def legs_without_a_call_id_meet_by_their_parties(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    caller = play.taken(leg(scene, name="caller"), client)
    callee = play.taken(leg(scene, name="callee"), client)
    talks = [talk(dialog.lines[0]) for dialog in (caller, callee)]
    say(*talks)
    caller.bye()
    callee.bye()
    recorded = play.archived(caller)
    assert play.archived(callee).folder == recorded.folder
    check_audio(recorded, *talks, channels=2)


@scenario("udp")
def legs_without_a_call_id_of_other_parties_stay_apart(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    one = play.taken(leg(scene, name="caller"), client)
    other = play.taken(leg(scene, name="callee", caller=scene.third, callee="48151623"), client)
    talks = [talk(dialog.lines[0]) for dialog in (one, other)]
    say(*talks)
    one.bye()
    other.bye()
    first, second = play.archived(one), play.archived(other)
    assert first.folder != second.folder
    check_audio(first, talks[0], channels=1)
    check_audio(second, talks[1], channels=1)


@scenario("udp")
def legs_without_a_call_id_that_come_late_stay_apart(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    one = play.taken(leg(scene, name="caller"), client)
    time.sleep(2.3)
    other = play.taken(leg(scene, name="callee"), client)
    talks = [talk(dialog.lines[0]) for dialog in (one, other)]
    say(*talks)
    one.bye()
    other.bye()
    assert play.archived(one).folder != play.archived(other).folder


@scenario("udp", "tcp")
def a_link_makes_two_calls_one_recording(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    one = play.taken(leg(scene, name="caller", call_id=play.name), client)
    first = talk(one.lines[0])
    say(first)
    linked = leg(
        scene,
        name="callee",
        call_id=play.name + "-b",
        caller=scene.caller,
        callee=scene.third,
        linked=play.name,
    )
    two = play.taken(linked, client)
    both = [talk(one.lines[0], after=first), talk(two.lines[0])]
    say(*both)
    one.bye()
    two.bye()
    recorded = play.archived(one)
    assert play.archived(two).folder == recorded.folder
    check_audio(recorded, first, *both, channels=2)
    assert {play.name, play.name + "-b"} <= set(recorded.manifest["call_ids"])


@scenario("udp")
def a_leg_that_leaves_and_comes_again_is_the_same_call(play: Play) -> None:
    client = play.client()
    scene = play.scene(client)
    stays = play.taken(leg(scene, name="caller", call_id=play.name), client)
    leaves = play.taken(leg(scene, name="callee", call_id=play.name), client)
    before = [talk(dialog.lines[0]) for dialog in (stays, leaves)]
    say(*before)
    leaves.bye()
    time.sleep(0.4)
    comes = play.taken(leg(scene, name="callee", call_id=play.name), client)
    after = [talk(stays.lines[0], after=before[0]), talk(comes.lines[0])]
    say(*after)
    stays.bye()
    comes.bye()
    recorded = play.archived(stays)
    places = check_audio(recorded, *before, *after, channels=2)
    assert places[1][0] == places[3][0]  # one leg, one channel
    assert play.archived(comes).folder == recorded.folder
