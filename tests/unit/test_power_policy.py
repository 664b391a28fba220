"""Power as it is judged: what each pitfall of UPSes comes to, by a clock of the test."""

from __future__ import annotations

import pytest

from recorderd.core.clock import NS_PER_S
from recorderd.core.conditions import Power, PowerState, UpsReading
from recorderd.policy.power import (
    ContactBack,
    ContactLost,
    Event,
    InTime,
    News,
    PowerChanged,
    PowerLimits,
    TimePassed,
    UpsFellSilent,
    UpsTold,
    WordsChanged,
    begin,
    does_background_work,
    is_anxious,
    outlook,
    step,
)

ON_LINE, ON_BATTERY, LOW, FSD = PowerState


class Played:
    """UPSes that say what a test lets them, once a second."""

    def __init__(self, *names: str, needed: int = 1) -> None:
        self.now_s = 0
        self.house = begin(names or ("a",), limits=PowerLimits(needed=needed), now_ns=0)
        self.news: list[tuple[int, News]] = []
        self._saying: dict[str, UpsReading | str] = {name: _said("OL") for name in names or ("a",)}

    def say(self, status: str | None, *, ups: str = "a", seconds: int = 1, **figures: int) -> PowerState:
        """Let a UPS say something for so long; None = it does not answer."""
        self._saying[ups] = "timed out" if status is None else _said(status, **figures)
        for _ in range(seconds):
            self.now_s += 1
            for name, said in self._saying.items():
                silent = isinstance(said, str)
                self._step(
                    UpsFellSilent(ups=name, reason=said) if silent else UpsTold(ups=name, reading=said)
                )
            self._step(TimePassed())
        return self.house.power.state

    def pass_time(self, seconds: int) -> PowerState:
        """Let time pass in which nobody asks anything."""
        for _ in range(seconds):
            self.now_s += 1
            self._step(TimePassed())
        return self.house.power.state

    def of(self, kind: type) -> list[News]:
        """The news of one kind."""
        return [item for _, item in self.news if isinstance(item, kind)]

    def _step(self, event: Event) -> None:
        self.house, news = step(self.house, event, now_ns=self.now_s * NS_PER_S)
        self.news += [(self.now_s, item) for item in news]


def _said(status: str, **figures: int) -> UpsReading:
    return UpsReading(words=frozenset(status.split()), **figures)


def test_on_battery_is_believed_after_five_seconds_and_told_once() -> None:
    played = Played()
    played.say("OL")
    assert played.say("OB DISCHRG", seconds=5) is ON_LINE
    assert played.say("OB DISCHRG", seconds=30) is ON_BATTERY
    changes = played.of(PowerChanged)
    assert [(change.was, change.power.state) for change in changes] == [(ON_LINE, ON_BATTERY)]
    assert changes[0].power.reason == "a: on battery (OB DISCHRG)"


def test_a_self_test_of_four_seconds_changes_nothing() -> None:
    played = Played()
    played.say("OL")
    for status in ("OB DISCHRG", "OFF", "OB LB TEST"):
        played.say(status, seconds=4)
        assert played.say("OL", seconds=20) is ON_LINE
    assert not played.of(PowerChanged)


def test_a_low_battery_is_believed_at_once_when_the_ups_is_on_battery() -> None:
    played = Played()
    assert played.say("OB", seconds=7) is ON_BATTERY
    assert played.say("OB LB") is LOW


def test_low_battery_on_line_is_a_battery_that_charges() -> None:
    assert Played().say("OL LB CHRG", seconds=60) is ON_LINE


def test_a_low_battery_while_calibrating_is_left_out_for_a_minute() -> None:
    played = Played()
    assert played.say("OB CAL LB", seconds=60) is ON_BATTERY
    assert played.say("OB CAL LB", seconds=2) is LOW


def test_off_counts_as_low_after_half_a_minute() -> None:
    played = Played()
    assert played.say("OFF", seconds=30) is ON_LINE
    assert played.say("OFF", seconds=2) is LOW


def test_lost_contact_while_on_line_is_a_warning() -> None:
    played = Played()
    played.say("OL")
    assert played.say(None, seconds=600) is ON_LINE
    assert not played.house.power.contact
    assert played.of(ContactLost) == [ContactLost(ups="a", reason="timed out")]
    played.say("OL")
    assert played.house.power.contact
    assert [type(item) for item in played.of(ContactBack)] == [ContactBack]


def test_lost_contact_while_on_battery_counts_as_low_after_fifteen_seconds() -> None:
    played = Played()
    assert played.say("OB", seconds=6) is ON_BATTERY
    assert played.say(None, seconds=15) is ON_BATTERY
    assert played.say(None, seconds=1) is LOW


def test_contact_that_is_lost_as_the_power_fails_counts_as_low_too() -> None:
    played = Played()
    played.say("OL")
    played.say("OB")
    assert played.say(None, seconds=14) is ON_BATTERY
    assert played.say(None, seconds=2) is LOW


def test_a_ups_that_is_no_longer_asked_is_silent() -> None:
    played = Played()
    played.say("OB", seconds=6)
    assert played.pass_time(15) is LOW
    assert "no answer" in played.house.power.reason


def test_power_is_back_after_ten_seconds_without_a_break() -> None:
    played = Played()
    played.say("OB LB", seconds=6)
    for _ in range(5):  # the mains flutter
        played.say("OL", seconds=8)
        assert played.say("OB", seconds=2) is LOW
    assert played.say("OL", seconds=10) is LOW
    assert played.say("OL") is ON_LINE
    assert len(played.of(PowerChanged)) == 2


def test_a_battery_that_is_low_no_more_is_on_battery_still() -> None:
    played = Played()
    assert played.say("OB LB", seconds=6) is LOW
    assert played.say("OB", seconds=11) is ON_BATTERY


def test_a_forced_shutdown_is_believed_at_once_and_for_ever() -> None:
    played = Played()
    played.say("OL")
    assert played.say("FSD OL") is FSD
    assert played.say("OL", seconds=3600) is FSD
    assert played.say(None, seconds=3600) is FSD


@pytest.mark.parametrize("status", ["", "WAIT", "ALARM", "HERO MODE"])
def test_words_that_say_nothing_of_the_supply_are_no_answer(status: str) -> None:
    played = Played()
    played.say("OL")
    assert played.say(status, seconds=20) is ON_LINE
    assert not played.house.power.contact
    assert played.say("OB", seconds=6) is ON_BATTERY
    assert played.say(status, seconds=16) is LOW


def test_unknown_words_beside_known_ones_are_taken_and_told_once() -> None:
    played = Played()
    assert played.say("OL ECO HE-MODE", seconds=9) is ON_LINE
    assert len(played.of(WordsChanged)) == 1
    assert "(OL ECO HE-MODE)" in played.house.power.reason


def test_one_of_two_supplies_may_fail_when_one_is_needed() -> None:
    played = Played("a", "b")
    played.say("OL", ups="b")
    assert played.say("OB LB", ups="a", seconds=60) is ON_LINE
    assert played.say("FSD OB", ups="a", seconds=60) is ON_LINE
    played.say("OL", ups="a", seconds=60)  # whose power is gone for us all the same
    assert played.say("OB", ups="b", seconds=7) is ON_BATTERY
    assert played.say("FSD OB", ups="b") is FSD


def test_with_both_needed_the_worse_one_counts() -> None:
    played = Played("a", "b", needed=2)
    played.say("OL", ups="b")
    assert played.say("OB", ups="a", seconds=7, runtime_s=900, charge_percent=90) is ON_BATTERY
    played.say("OL", ups="b", runtime_s=600, charge_percent=99)
    assert (played.house.power.runtime_s, played.house.power.charge_percent) == (600, 90)


def test_what_is_left_is_that_of_the_last_supply_that_is_needed() -> None:
    played = Played("a", "b")
    played.say("OB", ups="a", runtime_s=900)
    assert played.house.power.runtime_s == 900
    played.say("OB", ups="b", runtime_s=1200)
    assert played.house.power.runtime_s == 1200


def test_it_is_asked_more_often_from_the_first_word_of_a_battery_on() -> None:
    played = Played()
    played.say("OL")
    assert not is_anxious(played.house)
    played.say("OB")
    assert is_anxious(played.house)
    played.say("OL", seconds=2)
    assert not is_anxious(played.house)


@pytest.mark.parametrize(
    ("waiting_bytes", "bytes_per_s", "runtime_s", "in_time", "needed_s"),
    [
        (0, 0.0, None, InTime.YES, 0),
        (1_000_000, 10_000.0, 300, InTime.YES, 101),
        (2_000_000, 10_000.0, 300, InTime.NO, 201),  # two minutes of the five are the shutdown's
        (1, 1.0, 60, InTime.NO, 2),
        (1_000_000, 0.0, 300, InTime.UNKNOWN, None),
        (1_000_000, 10_000.0, None, InTime.UNKNOWN, 101),
    ],
)
def test_whether_the_spool_empties_in_time(
    waiting_bytes: int, bytes_per_s: float, runtime_s: int | None, in_time: InTime, needed_s: int | None
) -> None:
    power = Power(state=ON_BATTERY, reason="", runtime_s=runtime_s)
    found = outlook(waiting_bytes=waiting_bytes, bytes_per_s=bytes_per_s, power=power)
    assert (found.in_time, found.needed_s) == (in_time, needed_s)


@pytest.mark.parametrize("state", PowerState)
def test_only_on_line_there_is_background_work(state: PowerState) -> None:
    power = Power(state=state, reason="")
    assert does_background_work(power) is (state is ON_LINE)
