"""The manifest's rows about rules, controls, silence, joins, clocks, quality and keys; how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from recorderd.core.ids import is_safe_id
from recorderd.wire.canonical import JsonReader

KEY_LIMIT: Final = 128  # characters; a key is one, but after a crash it may be hidden
OUTSIDE: Final = -1  # before the recording's first sample or after its last
SPAN_CAUSES: Final = ("paused", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEntry:
    """What a rule said of the call; the defaults are those of a recorder without rules."""

    name: str = ""
    mode: str = "always"
    retention_class: str = "default"
    layout: str = "split"  # split | sides | mix
    priority: int = 0
    mandatory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlEntry:
    """Somebody asked for a change while the call ran, or time made one."""

    at: str  # RFC 3339, UTC
    sample: int  # position in the recording, or OUTSIDE
    action: str
    by: str  # empty = nobody, time did
    via: str
    state: str  # of the recording afterwards
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentSpan:
    """Samples that are digital silence on every channel because somebody wanted it."""

    start_samples: int
    length_samples: int
    cause: str  # one of SPAN_CAUSES
    begun_by: str
    begun_via: str
    ended_by: str  # with ended_via empty: it lasted to the end
    ended_via: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinEntry:
    """Another session whose streams went on in this recording."""

    at_samples: int  # position in the recording, or OUTSIDE
    call_id: str
    session: str


def read_rule(reader: JsonReader) -> RuleEntry:
    """Read the rule."""
    rule = RuleEntry(
        name=reader.text("name"),
        mode=reader.text("mode"),
        retention_class=reader.text("retention_class"),
        layout=reader.text("layout"),
        priority=reader.integer("priority", minimum=-(2**31), maximum=2**31),
        mandatory=reader.boolean("mandatory"),
    )
    reader.done()
    return rule


def read_control(reader: JsonReader) -> ControlEntry:
    """Read one control."""
    control = ControlEntry(
        at=reader.text("at"),
        sample=reader.integer("sample", minimum=OUTSIDE),
        action=reader.text("action"),
        by=reader.text("by"),
        via=reader.text("via"),
        state=reader.text("state"),
        accepted=reader.boolean("accepted"),
        reason=reader.text("reason"),
    )
    reader.done()
    return control


def read_span(reader: JsonReader) -> SilentSpan:
    """Read one silent span."""
    span = SilentSpan(
        start_samples=reader.integer("start_samples"),
        length_samples=reader.integer("length_samples", minimum=1),
        cause=reader.text("cause"),
        begun_by=reader.text("begun_by"),
        begun_via=reader.text("begun_via"),
        ended_by=reader.text("ended_by"),
        ended_via=reader.text("ended_via"),
    )
    if span.cause not in SPAN_CAUSES:
        raise reader.bad("cause", f"{span.cause!r} is unknown")
    reader.done()
    return span


def read_join(reader: JsonReader) -> JoinEntry:
    """Read one joined session."""
    session = reader.text("session")
    if not is_safe_id(session):
        raise reader.bad("session", "not an id")
    join = JoinEntry(
        at_samples=reader.integer("at_samples", minimum=OUTSIDE),
        call_id=reader.text("call_id"),
        session=session,
    )
    reader.done()
    return join


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Samples that were put in (positive) or left out for a sender's clock."""

    at_samples: int
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockEntry:
    """A sender's clock against the recorder's; a positive skew is one that runs fast.

    What arrival tells is by our clock, and what is corrected; what the sender reports is by its own.
    """

    skew_ppb: int = 0
    offset_us: int = 0  # of the first packet against the line that the rest lies on
    residual_us: int = 0  # by which the packets that came fastest stray from it
    span_s: int = 0  # over which it was observed; 0 = too short to tell
    corrected_samples: int = 0  # in all, see ``corrections``
    corrections: tuple[Correction, ...] = ()
    reports: int = 0  # sender reports (RTCP) that the two below were told by; 0 = none that can be used
    reported_skew_ppb: int = 0  # its media clock by its own wall clock; 0 also when that is not sure enough
    wall_offset_us: int = 0  # its wall clock less ours at the beginning, too low by the network's delay
    known: bool = True  # False = nobody measured, or a crash took it: zeros above mean nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityEntry:
    """How a stream came, and how it sounds."""

    jitter_us: int = 0  # RFC 3550 section 6.4.1
    mos_x100: int = 0  # estimate by ITU-T G.107 from loss and codec; 0 = nothing came
    clipped_samples: int = 0
    speech_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """A key that was pressed."""

    key: str
    via: str  # event (RFC 4733) | tone
    start_samples: int
    length_samples: int


def read_clock(reader: JsonReader, version: int) -> ClockEntry:
    """Read a clock's row as ``version`` of the manifest knows it."""
    later: dict[str, Any] = {}
    if version > 3:
        later = {
            "reports": reader.integer("reports"),
            "reported_skew_ppb": reader.integer("reported_skew_ppb", minimum=-(10**9), maximum=10**9),
            "wall_offset_us": reader.integer("wall_offset_us", minimum=-(2**62)),
        }
        if not later["reports"] and any(later.values()):
            raise reader.bad("reports", "none, although they tell something")
    if version > 4:
        later["known"] = reader.boolean("known")
    entry = ClockEntry(
        skew_ppb=reader.integer("skew_ppb", minimum=-(10**9), maximum=10**9),
        offset_us=reader.integer("offset_us", minimum=-(2**62)),
        residual_us=reader.integer("residual_us"),
        span_s=reader.integer("span_s"),
        corrected_samples=reader.integer("corrected_samples", minimum=-(2**62)),
        corrections=tuple(_correction(row) for row in reader.children("corrections", limit=1_000_000)),
        **later,
    )
    reader.done()
    measures = (entry.skew_ppb, entry.offset_us, entry.residual_us, entry.span_s, entry.reports)
    if not entry.known and any(measures):
        raise reader.bad("known", "false, although something is told")
    return entry


def _correction(reader: JsonReader) -> Correction:
    entry = Correction(
        at_samples=reader.integer("at_samples"), samples=reader.integer("samples", minimum=-(2**62))
    )
    reader.done()
    return entry


def read_quality(reader: JsonReader) -> QualityEntry:
    """Read a quality row."""
    entry = QualityEntry(
        jitter_us=reader.integer("jitter_us"),
        mos_x100=reader.integer("mos_x100", maximum=500),
        clipped_samples=reader.integer("clipped_samples"),
        speech_ms=reader.integer("speech_ms"),
    )
    reader.done()
    return entry


def read_key(reader: JsonReader) -> KeyEntry:
    """Read a key's row."""
    entry = KeyEntry(
        key=reader.text("key", limit=KEY_LIMIT),
        via=reader.text("via", limit=16),
        start_samples=reader.integer("start_samples"),
        length_samples=reader.integer("length_samples"),
    )
    reader.done()
    return entry
