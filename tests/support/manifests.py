"""Manifests of every version as hypothesis draws them: all that a recorder may write, and stranger texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from recorderd.core import gap_causes
from recorderd.wire import manifest as m
from recorderd.wire import manifest_entries as e
from recorderd.wire import manifest_rows as r

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
# What XML cannot hold, what it normalises, what it means something by, what turns a line, and plain text.
SIGNS = st.sampled_from("\x00\x1b\r\n\t<>&\"'\u0085\u2028\u202e\ufffe]\U0001f4de-a ")
ANY_TEXTS = st.text(SIGNS | st.characters(exclude_categories=["Cs"]), max_size=12)
TEXTS = st.sampled_from(
    ["", "1000", " Zo\u00eb ", "]]><!--", "&amp;\r\n\t", "\x00\x1b\x7f\x85\ufffe", "\u202e\U0001f4de"]
)
SHA256S = st.sampled_from(["ab" * 32, "0" * 64])
COUNTS = st.integers(0, 2**63 - 1)
SIGNED = st.integers(-(2**62), 2**62)


def _of(kind: type, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **fields)


def _some(rows: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(rows, max_size=most).map(tuple)


CALLS = _of(
    e.CallEntry,
    **dict.fromkeys(("call_id", "origin", "caller", "callee", "direction"), ANY_TEXTS),
    **dict.fromkeys(("extension", "trunk", "queue", "conference"), TEXTS),
)
PARTICIPANTS = _of(e.ParticipantEntry, participant_id=TEXTS, aor=TEXTS, name=ANY_TEXTS, number=TEXTS)
CLOCKS = _of(
    e.ClockStatement,
    source=st.sampled_from(e.CLOCK_SOURCES),
    synchronised=st.booleans(),
    offset_ns=SIGNED,
    stratum=st.integers(0, 15),
    max_error_ns=COUNTS,
    checked_at=st.just("2026-11-23T06:22:36.125Z"),
    stepped_ns=SIGNED,
)
PROOFS = st.just(e.ProofEntry()) | _of(
    e.ProofEntry,
    leaf_samples=st.integers(1),
    leaves=st.integers(1),
    root_sha256=SHA256S,
    checked_samples=st.just(0),
).filter(lambda proof: max(proof.leaf_samples, proof.leaves) < 2**63)
RULES = _of(
    r.RuleEntry,
    **dict.fromkeys(("name", "mode", "retention_class", "layout"), TEXTS),
    priority=st.integers(-(2**31), 2**31),
    mandatory=st.booleans(),
)
STREAM_CLOCKS = _of(
    r.ClockEntry,
    skew_ppb=st.integers(-(10**9), 10**9),
    offset_us=SIGNED,
    residual_us=COUNTS,
    span_s=COUNTS,
    corrected_samples=SIGNED,
    corrections=_some(_of(r.Correction, at_samples=COUNTS, samples=SIGNED)),
)
REPORTED = st.fixed_dictionaries(
    {
        "reports": st.integers(1, 2**63 - 1),
        "reported_skew_ppb": st.integers(-(10**9), 10**9),
        "wall_offset_us": SIGNED,
    }
)
QUALITIES = _of(
    r.QualityEntry,
    jitter_us=COUNTS,
    mos_x100=st.integers(0, 500),
    clipped_samples=COUNTS,
    speech_ms=COUNTS,
)
KEYS = _of(
    r.KeyEntry,
    key=st.sampled_from(["", "1", "#", "\x00"]),
    via=st.sampled_from(["event", "tone"]),
    start_samples=COUNTS,
    length_samples=COUNTS,
)
RECIPIENTS = st.builds(
    e.RecipientEntry,
    kind=st.sampled_from(e.RECIPIENT_KINDS),
    **dict.fromkeys(("name", "fingerprint", "expires_at"), TEXTS),
    expired=st.booleans(),
)
ENCRYPTED = {"encryption": "cms", "content_sha256": "cd" * 32, "content_bytes": 44}


@st.composite
def manifests(draw: st.DrawFn) -> m.Manifest:
    """Draw a manifest that holds together."""
    version = draw(st.integers(1, m.MANIFEST_VERSION))
    kept = version == 1 or draw(st.integers(0, 3)) > 0
    recording_id, duration = draw(IDS), draw(st.integers(100, 10**9))
    spans = draw(_some(st.sampled_from([(10, 5), (20, 1)]))) if kept and version > 1 else ()
    spans = tuple(sorted(set(spans)))
    channels = draw(st.integers(1, 3)) if kept else 0
    controls = _of(
        r.ControlEntry,
        **dict.fromkeys(("at", "action", "by", "via", "state", "reason"), TEXTS),
        sample=st.integers(-1, duration if kept else 0),
        accepted=st.booleans(),
    )
    joins = _of(r.JoinEntry, at_samples=st.integers(-1, duration if kept else 0), call_id=TEXTS, session=IDS)
    streams = st.builds(_stream, st.just(version), st.just(channels), st.just(spans), st.data())
    since_2: dict[str, Any] = {}
    if version > 1:
        since_2 = {
            "outcome": m.OUTCOME_RECORDED if kept else draw(st.sampled_from(m.TOMBSTONES)),
            "rule": draw(RULES),
            "controls": draw(_some(controls)),
            "spans": tuple(_span(start, length, draw(TEXTS)) for start, length in spans),
            "call_ids": draw(_some(TEXTS)),
            "joins": draw(_some(joins)),
            "joined_into": draw(st.just("") | IDS),
        }
    since_3 = {"audio_format": draw(TEXTS), "talk_over_ms": draw(COUNTS)} if version > 2 else {}
    since_4 = {"clock": draw(CLOCKS), "proof": draw(PROOFS)} if version > 3 else {}
    sealed = version > 4 and draw(st.booleans())  # the manifest is encrypted too
    since_5: dict[str, Any] = {}
    if version > 4:
        recipients = draw(st.lists(RECIPIENTS, min_size=int(sealed), max_size=2).map(tuple))
        since_5 = {"recipients": recipients, "metadata_encrypted": sealed, "blinding": draw(TEXTS)}
    return m.Manifest(
        recording_id=recording_id,
        recorder_id=draw(IDS),
        software=draw(TEXTS),
        sequence=draw(st.integers(1, 2**63 - 1)),
        previous_manifest_sha256=draw(SHA256S),
        call=draw(CALLS),
        participants=draw(_some(PARTICIPANTS)),
        started_at=draw(TEXTS),
        ended_at=draw(TEXTS),
        duration_samples=duration if kept else 0,
        sample_rate_hz=draw(st.integers(1, 1_000_000)),
        channels=channels,
        end_cause=draw(TEXTS),
        recovered=draw(st.booleans()),
        streams=draw(_some(streams)),
        files=_files(recording_id, version, encrypted=draw(st.booleans()), sealed=sealed) if kept else (),
        **since_2,
        **since_3,
        **since_4,
        **since_5,
        manifest_version=version,
    )


def _files(recording_id: str, version: int, *, encrypted: bool, sealed: bool) -> tuple[e.FileEntry, ...]:
    is_long = version > 3 and not sealed
    name = f"20261123062236-1-2-internal-{recording_id}.wav" if is_long else f"{recording_id}.wav"
    extra: dict[str, Any] = ENCRYPTED if encrypted and version > 3 else {}
    audio = e.FileEntry(name=name, role="audio", size_bytes=44, sha256="ab" * 32, **extra)
    offer = e.FileEntry(name=f"{recording_id}.offer-1.sip", role="offer", size_bytes=1, sha256="ab" * 32)
    return (audio, offer)


def _span(start: int, length: int, by: str) -> r.SilentSpan:
    return r.SilentSpan(
        start_samples=start,
        length_samples=length,
        cause="paused",
        begun_by=by,
        begun_via="info",
        ended_by="",
        ended_via="",
    )


def _stream(version: int, channels: int, spans: tuple[tuple[int, int], ...], data: Any) -> m.StreamEntry:
    draw = data.draw
    gaps = tuple(m.Gap(start_samples=at, length_samples=length, cause="paused") for at, length in spans)
    if channels and draw(st.booleans()):
        cause = draw(st.sampled_from(sorted(gap_causes.ALL)))
        gaps = (*gaps, m.Gap(start_samples=50, length_samples=50, cause=cause))
    later: dict[str, Any] = {}
    if version > 1:
        later = {"party": draw(TEXTS), "moved_from": draw(TEXTS), "doubled": draw(st.booleans())}
    if version > 2:
        clock = draw(STREAM_CLOCKS)
        if version > 3 and draw(st.booleans()):
            clock = replace(clock, **draw(REPORTED))
        if version > 4:
            unknown = r.ClockEntry(
                corrected_samples=clock.corrected_samples, corrections=clock.corrections, known=False
            )
            clock = clock if draw(st.booleans()) else unknown
        later |= {"sources": draw(_some(TEXTS)), "clock": clock}
        later |= {"quality": draw(QUALITIES), "keys": draw(_some(KEYS))}
    counters = ("received", "lost", "duplicate", "late", "foreign", "malformed", "kernel_dropped")
    return m.StreamEntry(
        stream=draw(TEXTS),
        label=draw(TEXTS),
        channel=draw(st.integers(0, max(channels - 1, 0))),
        participant_ids=draw(_some(TEXTS)),
        encoding=draw(TEXTS),
        clock_rate_hz=draw(st.integers(1, 2**63 - 1)),
        ssrcs=draw(_some(st.integers(0, 2**32 - 1))),
        first_sample=draw(st.integers(-1, 2**63 - 1)),
        **{f"packets_{name}": draw(COUNTS) for name in counters},
        peak_dbfs=draw(st.integers(-96, 0)),
        rms_dbfs=draw(st.integers(-96, 0)),
        end_cause=draw(TEXTS),
        gaps=gaps,
        **later,
    )
