"""Judges what was recorded of a call while faults happened: sample by sample, and each loss by its cause.

Rule: every sample that was sent stands in the one recording of its call, or in a gap of the signed manifest
whose cause fits what was wrong at that moment, or was sent later than the promise reaches before the recorder
went down with all that outlives it. Anything else is WRONG. A kill alone excuses nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dsp.shapes import BOOL
from tests.support import g711_reference
from tests.support.house import Recorded
from tests.support.rtp_sender import PTIME_S

RATE_HZ: Final = 8000
OCTETS: Final = 160
PROMISED_S: Final = 2.6  # evidence/README.md: what a power cut takes at most, from 200 sessions on
ANSWERED_S: Final = 0.1  # a session whose answer has just left is nobody's yet: 1 ms, and a busy machine
WHOLE: Final = "whole"
SIGNED: Final = "part, signed"
CUT: Final = "cut by a fall"
UNTOLD: Final = "killed at its answer"
WRONG: Final = "WRONG"

FULL: Final = "disk full"
FALL: Final = "recorder falls"  # with sockets, shelves and sessions: as a power cut, but for the disk
KILL: Final = "recorder killed"
ENDED: Final = "recorder ended by itself"

# What may have been wrong when a gap of a cause was made, and for how long after its end it may be.
DELAY_S: Final = 0.7  # what is sent later than this may come after its span was rendered (record.delay_ms)
TOO_LATE: Final = frozenset({"late", "network_loss", "not_received"})  # so it is told then

FITS: Final[dict[str, tuple[str, float]]] = {"disk_full": (FULL, 5.0)}


@dataclass(frozen=True, kw_only=True)
class Happening:
    """A span of time in which something was wrong."""

    what: str
    began_s: float  # on the monotonic clock
    ended_s: float

    def covers(self, began_s: float, ended_s: float, *, after_s: float = 0.0) -> bool:
        """Tell whether it was going on at some instant of a span, or shortly before."""
        return self.began_s <= ended_s and began_s <= self.ended_s + after_s


@dataclass
class Spoken:
    """One call that was taken: when, and what was said."""

    number: int
    seed: int
    packets: int
    answered_s: float
    began_s: float = 0.0  # when its first packets left
    ended_s: float = 0.0
    late_s: float = 0.0  # by which a packet left later than was due, at most
    verdict: str = "no trace"
    missing_s: float = 0.0

    def payloads(self, lines: int = 2) -> list[bytes]:
        """What was said on each line."""
        luck = random.Random(self.seed)
        return [luck.randbytes(OCTETS * self.packets) for _ in range(lines)]


@dataclass
class Judge:
    """Says of each call what became of it."""

    happenings: Sequence[Happening]

    def judge(self, call: Spoken, found: Sequence[Recorded]) -> None:
        """Judge a call by all that the archive holds of it."""
        recordings = [one for one in found if one.manifest["outcome"] == "recorded"]
        # An INVITE that was answered to nobody came again: the first session heard nothing, and says so.
        recordings = [one for one in recordings if _heard(one)] or recordings
        if len(recordings) > 1:
            call.verdict = f"{WRONG}: stands {len(recordings)} times"
        elif recordings:
            self._compare(call, recordings[0])
        elif self._just_answered(call):
            call.verdict = UNTOLD
        elif found:
            call.verdict = f"{WRONG}: an entry without audio: {found[0].manifest['outcome']}"
        else:
            call.verdict = f"{WRONG}: no trace"

    def _just_answered(self, call: Spoken) -> bool:
        """Tell whether it was answered when the recorder ended, or just before it fell."""
        for one in self.happenings:
            before_s = {FALL: PROMISED_S, KILL: ANSWERED_S}.get(one.what)
            if before_s is not None and one.began_s - before_s <= call.answered_s <= one.ended_s:
                return True
        return False

    def _compare(self, call: Spoken, recorded: Recorded) -> None:
        samples, rate_hz = recorded.samples()
        entries = sorted(recorded.streams(), key=lambda entry: str(entry["label"]))
        if len(entries) > len(call.payloads()):  # its INVITE was answered twice, the first time to nobody
            entries = [entry for entry in entries if entry["packets_received"]]
        payloads = call.payloads()
        if rate_hz != RATE_HZ or len(entries) != len(payloads):
            call.verdict = f"{WRONG}: {len(entries)} streams at {rate_hz} Hz"
            return
        verdicts = []
        for entry, payload in zip(entries, payloads, strict=True):
            voice = g711_reference.decode(payload, law="PCMA")
            first = int(entry["first_sample"])
            there = np.zeros(voice.size, dtype=np.bool_)  # in the recording
            gap = np.full(voice.size, "", dtype=object)
            if first >= 0:
                heard = samples[first : first + voice.size, int(entry["channel"])]
                there[: heard.size] = heard == voice[: heard.size]
                for row in entry["gaps"]:
                    low = max(0, row["start_samples"] - first)
                    gap[low : max(0, row["start_samples"] + row["length_samples"] - first)] = row["cause"]
            reach = max(0, min(voice.size, samples.shape[0] - first)) if first >= 0 else 0
            while recorded.manifest["recovered"] and reach and gap[reach - 1] == "not_received":
                reach -= 1  # a fall ends the recording where the other stream was a packet ahead
            verdicts.append(self._verdict(call, recorded.manifest, entry, there, gap, reach))
        call.verdict = (
            max(verdicts, key=[WHOLE, SIGNED, CUT].index) if _all_right(verdicts) else _worst(verdicts)
        )

    def _verdict(
        self,
        call: Spoken,
        manifest: dict[str, Any],
        entry: dict[str, Any],
        there: BOOL,
        gap: Any,
        reach: int,
    ) -> str:
        """Judge one stream: what is there, which gap covers a sample, how far the recording goes."""
        told = gap != ""
        if (there & told).any():
            return f"{WRONG}: a gap over what is there, {_where(there & told, gap)}"
        within = np.arange(there.size) < reach
        untold = ~there & within & ~told
        if untold.any():
            return (
                f"{WRONG}: other samples than were sent, {_where(untold, gap)}: {_told_of(manifest, entry)}"
            )
        call.missing_s = max(call.missing_s, float((~there).sum()) / RATE_HZ)
        for cause in sorted(set(gap[told & within])):
            of_cause = told & within & (gap == cause)
            if not self._fits(call, str(cause), of_cause):
                return f"{WRONG}: nothing explains {_where(of_cause, gap)}: {_told_of(manifest, entry)}"
        if reach < there.size:
            if not manifest["recovered"]:
                return f"{WRONG}: the end is missing from {reach} on, and nothing says so"
            sent_s = call.began_s + reach / RATE_HZ
            until_s = sent_s + call.late_s + PROMISED_S
            if not any(one.what == FALL and one.covers(sent_s, until_s) for one in self.happenings):
                return f"{WRONG}: the end is missing from {reach} on: {_told_of(manifest, entry)}"
            return CUT
        if told.any():
            return SIGNED
        # What a fall leaves counts packets as the last note in the journal did.
        if entry["packets_received"] != call.packets and not manifest["recovered"]:
            return f"{WRONG}: {entry['packets_received']} packets counted of {call.packets}"
        return WHOLE

    def _fits(self, call: Spoken, cause: str, where: BOOL) -> bool:
        """Tell whether something of the kind was wrong when the first and the last of these were sent."""
        if cause in TOO_LATE and call.late_s > DELAY_S:  # the sender stood still, not the recorder
            return True
        if cause not in FITS:
            return False
        what, after_s = FITS[cause]
        places = np.flatnonzero(where) / RATE_HZ + call.began_s
        spans = [one for one in self.happenings if one.what == what]
        return all(
            any(one.covers(at, at + call.late_s + PTIME_S, after_s=after_s) for one in spans)
            for at in (float(places[0]), float(places[-1]))
        )


def _all_right(verdicts: Sequence[str]) -> bool:
    return not any(verdict.startswith(WRONG) for verdict in verdicts)


def _heard(recorded: Recorded) -> bool:
    return any(entry["packets_received"] for entry in recorded.streams())


def _worst(verdicts: Sequence[str]) -> str:
    return next(verdict for verdict in verdicts if verdict.startswith(WRONG))


def _where(these: BOOL, gap: Any) -> str:
    places = np.flatnonzero(these)
    return f"{places.size} samples from {places[0]} to {places[-1]} ({gap[places[0]] or 'no gap'})"


def _told_of(manifest: dict[str, Any], entry: dict[str, Any]) -> str:
    words = ("first_sample", "packets_received", "packets_lost", "packets_late", "end_cause")
    told = {word: entry[word] for word in words}
    return (
        f"{manifest['recording_id']} {told} recovered={manifest['recovered']} "
        f"{[row['reason'] for row in manifest['controls']]}"
    )
