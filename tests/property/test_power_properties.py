"""What no sequence of words, silences and times can break in power; and no octets in those who tell it."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.core.clock import NS_PER_S
from recorderd.core.conditions import PowerState, UpsReading
from recorderd.core.errors import UpsFormatError, UpsSilent
from recorderd.policy.power import Event, PowerLimits, TimePassed, UpsFellSilent, UpsTold, begin, step
from recorderd.wire.apcupsd_nis import NisReply
from recorderd.wire.nut import NutConversation

NAMES = ("a", "b", "c")
WORDS = ("OL", "OB", "LB", "FSD", "CAL", "TEST", "OFF", "BYPASS", "RB", "ALARM", "WAIT", "x" * 40)

readings = st.builds(
    UpsReading,
    words=st.frozensets(st.sampled_from(WORDS), max_size=4),
    runtime_s=st.none() | st.integers(0, 10**7),
    charge_percent=st.none() | st.integers(0, 100),
)
ups = st.sampled_from(NAMES)
events = st.one_of(
    st.builds(UpsTold, ups=ups, reading=readings),
    st.builds(UpsFellSilent, ups=ups, reason=st.just("no answer")),
    st.builds(TimePassed),
)
played = st.lists(st.tuples(st.integers(0, 40), events), max_size=60)


@settings(max_examples=400)
@given(played, st.integers(1, 3))
def test_a_forced_shutdown_is_never_left(steps: list[tuple[int, Event]], needed: int) -> None:
    house, now_ns, final = begin(NAMES, limits=PowerLimits(needed=needed), now_ns=0), 0, False
    for wait_s, event in steps:
        now_ns += wait_s * NS_PER_S
        house, _ = step(house, event, now_ns=now_ns)
        assert not final or house.power.state is PowerState.FORCED_SHUTDOWN
        final = final or house.power.state is PowerState.FORCED_SHUTDOWN


@settings(max_examples=400)
@given(played, st.integers(1, 3))
def test_it_is_never_on_line_while_fewer_feed_than_are_needed(
    steps: list[tuple[int, Event]], needed: int
) -> None:
    """For longer than a self-test takes; judged from the words alone, without the reducer's own notes."""
    limits = PowerLimits(needed=needed)
    house, now_ns = begin(NAMES, limits=limits, now_ns=0), 0
    starved_since_ns: int | None = None
    on_battery: set[str] = set()
    for wait_s, event in steps:
        now_ns += wait_s * NS_PER_S
        if isinstance(event, UpsTold):
            words = event.reading.words
            if words & {"OB", "FSD"}:
                on_battery.add(event.ups)
            elif words & {"OL", "BYPASS"}:
                on_battery.discard(event.ups)
        if len(NAMES) - len(on_battery) >= needed:
            starved_since_ns = None
        elif starved_since_ns is None:
            starved_since_ns = now_ns
        house, _ = step(house, event, now_ns=now_ns)
        if starved_since_ns is not None and now_ns - starved_since_ns >= limits.battery_after_ns:
            assert house.power.state > PowerState.ON_LINE, (event, house)


@settings(max_examples=200)
@given(played, st.integers(1, 3))
def test_needing_more_supplies_never_makes_a_host_better_off(
    steps: list[tuple[int, Event]], needed: int
) -> None:
    houses = [begin(NAMES, limits=PowerLimits(needed=count), now_ns=0) for count in range(1, needed + 1)]
    now_ns = 0
    for wait_s, event in steps:
        now_ns += wait_s * NS_PER_S
        houses = [step(house, event, now_ns=now_ns)[0] for house in houses]
        states = [house.power.state for house in houses]
        assert states == sorted(states)


@settings(max_examples=200)
@given(played)
def test_every_change_of_state_is_news_once(steps: list[tuple[int, Event]]) -> None:
    house, now_ns = begin(NAMES, limits=PowerLimits(), now_ns=0), 0
    for wait_s, event in steps:
        now_ns += wait_s * NS_PER_S
        before = house.power.state
        house, news = step(house, event, now_ns=now_ns)
        changes = [(item.was, item.power.state) for item in news if hasattr(item, "was")]
        assert changes == ([(before, house.power.state)] if before is not house.power.state else [])


LINES = st.sampled_from(
    [
        b"OK\n",
        b"OK STARTTLS\n",
        b"ERR ACCESS-DENIED\n",
        b"ERR DATA-STALE\n",
        b"BEGIN LIST VAR ups\n",
        b'VAR ups ups.status "OL \\"x\\""\n',
        b"END LIST VAR ups\n",
        b"BEGIN LIST UPS\n",
        b'UPS ups "A"\n',
        b"END LIST UPS\n",
        b'VAR ups ups.status "OL\n',
    ]
)


@settings(max_examples=300)
@given(st.lists(LINES | st.binary(max_size=40), max_size=20), st.booleans(), st.sampled_from(["", "ups"]))
def test_any_octets_from_upsd_are_taken_or_raise_the_one_error(
    pieces: list[bytes], wants_tls: bool, name: str
) -> None:
    talk = NutConversation(ups=name, user="u", password="p", wants_tls=wants_tls)
    talk.ask_status()
    with suppress(UpsFormatError):
        for piece in pieces:
            talk.receive(piece)
            talk.take_outgoing()


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_any_octets_from_apcupsd_are_taken_or_raise_its_errors(pieces: list[bytes], framed: bool) -> None:
    reply = NisReply()
    with suppress(UpsFormatError, UpsSilent):
        for piece in pieces:
            reply.receive(len(piece).to_bytes(2, "big") + piece if framed else piece)
