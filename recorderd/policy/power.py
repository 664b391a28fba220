"""Power: from the raw words of several UPSes to one state of the host, and what follows for the spool.

Rules:
- A UPS is believed to be worse off when its words have said so for `battery_after_ns` (self-tests take
  seconds); once it is on battery, a low battery is believed at once. It is believed to be better off when its
  words have said so for `return_after_ns`. FSD is believed at once and for ever: upsd keeps it until it is
  started anew, and the machine goes down.
- LB counts only beside OB. While the UPS calibrates or tests itself it is left out, for `exercise_ns` at
  most. OFF without OL counts as a low battery after `off_after_ns`. Words nobody here knows change nothing.
- A UPS that says nothing is as it was; when it was on battery it counts as low after `lost_low_after_ns`.
- The host is as well off as its `needed`-th best UPS; FORCED_SHUTDOWN is never left.
Pure: no clock, no I/O. Source: NUT status words; upsmon(8) for OFFDURATION and MINSUPPLIES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.conditions import Power, PowerState, UpsReading

# The first row whose words are all there decides. None: nothing is known of the supply.
CLAIMS: Final[tuple[tuple[frozenset[str], PowerState], ...]] = (
    (frozenset({"FSD"}), PowerState.FORCED_SHUTDOWN),
    (frozenset({"OB", "LB"}), PowerState.LOW_BATTERY),
    (frozenset({"OB"}), PowerState.ON_BATTERY),
    (frozenset({"OL"}), PowerState.ON_LINE),
    (frozenset({"BYPASS"}), PowerState.ON_LINE),  # mains feeds, past the batteries
    (frozenset({"OFF"}), PowerState.LOW_BATTERY),
)
_EXERCISES: Final = frozenset({"CAL", "TEST"})
_SAID: Final = {
    PowerState.ON_LINE: "on line",
    PowerState.ON_BATTERY: "on battery",
    PowerState.LOW_BATTERY: "low battery",
    PowerState.FORCED_SHUTDOWN: "forced shutdown",
}
SHUTDOWN_RESERVE_S: Final = 120  # upsmon shuts down with so much left (battery.runtime.low of most devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLimits:
    """How many UPSes must feed, and how long what is said must stand before it is believed."""

    needed: int = 1
    battery_after_ns: int = 5 * NS_PER_S
    return_after_ns: int = 10 * NS_PER_S
    lost_low_after_ns: int = 15 * NS_PER_S
    off_after_ns: int = 30 * NS_PER_S
    exercise_ns: int = 60 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Ups:
    """What is known of one UPS."""

    name: str
    reading: UpsReading | None = None  # the last
    told_ns: int = 0
    believed: PowerState = PowerState.ON_LINE
    claim: PowerState = PowerState.ON_LINE  # what its words come to now
    claim_since_ns: int = 0
    off_line_since_ns: int | None = None  # its words have not said OL
    exercising_since_ns: int | None = None  # low while it calibrates or tests itself
    off_since_ns: int | None = None
    silent_since_ns: int | None = None
    silence: str = ""  # why it says nothing
    is_lost: bool = False  # silent for long enough to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """All UPSes of a host, and what they come to."""

    limits: PowerLimits
    upses: tuple[Ups, ...]
    power: Power


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsTold:
    """A UPS has said how it is."""

    ups: str
    reading: UpsReading


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsFellSilent:
    """A question to a UPS had no answer."""

    ups: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """Nothing was heard, and it is later."""


Event = UpsTold | UpsFellSilent | TimePassed


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsChanged:
    """A UPS says other words than before."""

    ups: str
    reading: UpsReading


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactLost:
    """A UPS has said nothing for long enough to tell."""

    ups: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactBack:
    """It says something again."""

    ups: str
    silent_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerChanged:
    """The host is in another state."""

    was: PowerState
    power: Power


News = WordsChanged | ContactLost | ContactBack | PowerChanged


def begin(names: Sequence[str], *, limits: PowerLimits, now_ns: int) -> House:
    """Know of nothing yet: the host is taken to be on line, without contact."""
    upses = tuple(
        Ups(name=name, claim_since_ns=now_ns, silent_since_ns=now_ns, silence="not asked yet")
        for name in names
    )
    return House(limits=limits, upses=upses, power=_judged(upses, limits, PowerState.ON_LINE))


def step(house: House, event: Event, *, now_ns: int) -> tuple[House, tuple[News, ...]]:
    """Take what was heard, or that time has passed; say what is news."""
    news: list[News] = []
    upses = []
    for ups in house.upses:
        heard = _heard(ups, event, house.limits, now_ns, news)
        upses.append(_settled(heard, house.limits, now_ns, news))
    power = _judged(upses, house.limits, house.power.state)
    if power.state is not house.power.state:
        news.append(PowerChanged(was=house.power.state, power=power))
    return replace(house, upses=tuple(upses), power=power), tuple(news)


def claim_of(words: frozenset[str]) -> PowerState | None:
    """Say what a UPS's words come to; None when they say nothing of its supply."""
    return next((state for needed, state in CLAIMS if needed <= words), None)


def spelled(words: frozenset[str]) -> str:
    """Write words as NUT does, the supply first."""
    return " ".join(sorted(words, key=lambda word: (word not in ("OL", "OB"), word)))


def is_anxious(house: House) -> bool:
    """Tell whether any UPS is, or may be, not on line: then ask more often."""
    return any(max(ups.claim, ups.believed) > PowerState.ON_LINE for ups in house.upses)


# --- one UPS ------------------------------------------------------------------------------------


def _heard(ups: Ups, event: Event, limits: PowerLimits, now_ns: int, news: list[News]) -> Ups:
    match event:
        case UpsTold(ups=ups.name, reading=reading) if claim_of(reading.words) is None:
            return _silenced(ups, f"it says nothing of its supply: {spelled(reading.words)!r}", now_ns)
        case UpsTold(ups=ups.name, reading=reading):
            if ups.is_lost and ups.silent_since_ns is not None:
                news.append(ContactBack(ups=ups.name, silent_ns=now_ns - ups.silent_since_ns))
            if ups.reading is None or ups.reading.words != reading.words:
                news.append(WordsChanged(ups=ups.name, reading=reading))
            return _told(ups, reading, now_ns)
        case UpsFellSilent(ups=ups.name, reason=reason):
            return _silenced(ups, reason, now_ns)
    if ups.silent_since_ns is None and now_ns - ups.told_ns >= limits.lost_low_after_ns:
        return _silenced(ups, "no answer", ups.told_ns)
    return ups


def _told(ups: Ups, reading: UpsReading, now_ns: int) -> Ups:
    words = reading.words
    exercises_low = "LB" in words and "OB" in words and bool(words & _EXERCISES)
    is_off = claim_of(words) is PowerState.LOW_BATTERY and "OB" not in words
    return replace(
        ups,
        reading=reading,
        told_ns=now_ns,
        claim_since_ns=ups.claim_since_ns if ups.silent_since_ns is None else now_ns,
        exercising_since_ns=_since(ups.exercising_since_ns, exercises_low, now_ns),
        off_since_ns=_since(ups.off_since_ns, is_off, now_ns),
        silent_since_ns=None,
        silence="",
        is_lost=False,
    )


def _silenced(ups: Ups, reason: str, since_ns: int) -> Ups:
    if ups.silent_since_ns is not None:
        return replace(ups, silence=reason)
    return replace(ups, silent_since_ns=since_ns, silence=reason)


def _since(before_ns: int | None, holds: bool, now_ns: int) -> int | None:
    if not holds:
        return None
    return now_ns if before_ns is None else before_ns


def _settled(ups: Ups, limits: PowerLimits, now_ns: int, news: list[News]) -> Ups:
    """Believe what has stood for long enough."""
    claim = _claim(ups, limits, now_ns)
    if claim is not ups.claim:
        ups = replace(ups, claim=claim, claim_since_ns=now_ns)
    off_line = claim > PowerState.ON_LINE
    ups = replace(ups, off_line_since_ns=_since(ups.off_line_since_ns, off_line, now_ns))
    silent_ns = 0 if ups.silent_since_ns is None else now_ns - ups.silent_since_ns
    if not ups.is_lost and silent_ns >= limits.battery_after_ns:
        ups = replace(ups, is_lost=True)
        news.append(ContactLost(ups=ups.name, reason=ups.silence))
    return replace(ups, believed=_believed(ups, limits, now_ns))


def _claim(ups: Ups, limits: PowerLimits, now_ns: int) -> PowerState:
    if ups.reading is None:
        return ups.claim
    said = claim_of(ups.reading.words)
    claim = ups.claim if said is None else said
    if ups.exercising_since_ns is not None and now_ns - ups.exercising_since_ns < limits.exercise_ns:
        claim = PowerState.ON_BATTERY
    if ups.off_since_ns is not None and now_ns - ups.off_since_ns < limits.off_after_ns:
        claim = ups.claim
    if (
        ups.silent_since_ns is not None
        and max(claim, ups.believed) is PowerState.ON_BATTERY
        and now_ns - ups.silent_since_ns >= limits.lost_low_after_ns
    ):
        claim = PowerState.LOW_BATTERY
    return claim


def _believed(ups: Ups, limits: PowerLimits, now_ns: int) -> PowerState:
    believed, claim = ups.believed, ups.claim
    if PowerState.FORCED_SHUTDOWN in (believed, claim):
        return PowerState.FORCED_SHUTDOWN
    if claim > believed:
        since_ns = now_ns if ups.off_line_since_ns is None else ups.off_line_since_ns
        stands = believed > PowerState.ON_LINE or now_ns - since_ns >= limits.battery_after_ns
        return claim if stands or ups.off_since_ns is not None else believed
    if claim < believed and ups.silent_since_ns is None:
        return claim if now_ns - ups.claim_since_ns >= limits.return_after_ns else believed
    return believed


# --- the host -----------------------------------------------------------------------------------


def _judged(upses: Sequence[Ups], limits: PowerLimits, was: PowerState) -> Power:
    states = sorted(ups.believed for ups in upses)
    state = max(states[limits.needed - 1], was if was is PowerState.FORCED_SHUTDOWN else PowerState.ON_LINE)
    return Power(
        state=state,
        reason="; ".join(_described(ups) for ups in upses),
        runtime_s=_figure(upses, limits, lambda reading: reading.runtime_s),
        charge_percent=_figure(upses, limits, lambda reading: reading.charge_percent),
        contact=not any(ups.is_lost or ups.reading is None for ups in upses),
    )


def _described(ups: Ups) -> str:
    if ups.reading is None:
        return f"{ups.name}: never heard of ({ups.silence})"
    lost = f", no contact ({ups.silence})" if ups.is_lost else ""
    return f"{ups.name}: {_SAID[ups.believed]} ({spelled(ups.reading.words)}){lost}"


def _figure(upses: Sequence[Ups], limits: PowerLimits, of: Callable[[UpsReading], int | None]) -> int | None:
    """Give what the `needed`-th best has left: then fewer than needed feed."""
    known = [of(ups.reading) for ups in upses if ups.reading is not None]
    figures = sorted((figure for figure in known if figure is not None), reverse=True)
    return figures[limits.needed - 1] if len(figures) >= limits.needed else None


# --- what follows -------------------------------------------------------------------------------


class InTime(StrEnum):
    """Whether the spool empties before the batteries do."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"  # the batteries do not say how long, or nothing was flushed lately


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """How the flushing of what waits compares with what the batteries have."""

    in_time: InTime
    needed_s: int | None  # to flush what waits at the present rate; None = not known
    usable_s: int | None  # before the shutdown begins; None = not known


def outlook(*, waiting_bytes: int, bytes_per_s: float, power: Power) -> Outlook:
    """Say whether what waits in the spool reaches the archive before the power goes."""
    usable_s = None if power.runtime_s is None else max(0, power.runtime_s - SHUTDOWN_RESERVE_S)
    if waiting_bytes == 0:
        return Outlook(in_time=InTime.YES, needed_s=0, usable_s=usable_s)
    if bytes_per_s <= 0:
        return Outlook(in_time=InTime.UNKNOWN, needed_s=None, usable_s=usable_s)
    needed_s = int(waiting_bytes / bytes_per_s) + 1
    if usable_s is None:
        return Outlook(in_time=InTime.UNKNOWN, needed_s=needed_s, usable_s=None)
    in_time = InTime.YES if needed_s <= usable_s else InTime.NO
    return Outlook(in_time=in_time, needed_s=needed_s, usable_s=usable_s)


def does_background_work(power: Power) -> bool:
    """Tell whether there is power for what can wait: time stamps, renewals, copies for further archives."""
    return power.state is PowerState.ON_LINE
