"""The terms of a recording: what a rule said of a call, fixed when the session begins.

``policy.rules`` decides them; everybody else reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """Whether a call is recorded, and what its parties may change about it."""

    NEVER = "never"
    ALWAYS = "always"
    ALWAYS_PAUSABLE = "always-pausable"
    ON_DEMAND = "on-demand"


class Layout(StrEnum):
    """Who is on which channel."""

    SPLIT = "split"  # a channel per party
    SIDES = "sides"  # the recorded side, everybody else
    MIX = "mix"  # one channel


class AudioFormat(StrEnum):
    """What stands in the WAV."""

    PCM16 = "pcm16"
    NATIVE = "native"  # the wire's own G.711 octets, where every stream has one and the same law


class Consent(StrEnum):
    """Whether the call's parties are asked."""

    NONE = "none"
    REQUIRED = "required"  # nothing is kept before somebody agrees
    OBJECTION = "objection"  # recorded unless somebody objects


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingTerms:
    """What applies to one session."""

    rule: str = ""  # name of the rule that decided; empty = there are no rules
    mode: Mode = Mode.ALWAYS
    retention_class: str = "default"
    layout: Layout = Layout.SPLIT
    audio_format: AudioFormat = AudioFormat.PCM16
    mask_dtmf: bool = False  # keys are neither audible nor told anywhere
    priority: int = 0  # larger = more important
    mandatory: bool = False
    consent: Consent = Consent.NONE
    consent_wait_s: int = 30
    prompt: str = ""  # name of the prompt that is played before recording begins; empty = none
    language: str = "en"
    beep_every_s: int = 0  # 0 = no beep
    preroll_ms: int = 0  # on demand: how much of the past is held in memory
    keep_preroll: bool = True  # whether the held past becomes part of the recording when it is started
    encrypt: str = ""  # to whose recipients, by name; empty = in clear
    encrypt_metadata: bool = False  # also who spoke with whom: manifest, offers, file names
    pause_limit_s: int = 0  # 0 = a pause lasts until it is ended

    def told(self, **who: str) -> dict[str, str]:
        """Give what a log may say of the people of a call: nothing where it is encrypted who they are."""
        return {} if self.encrypt_metadata else who
