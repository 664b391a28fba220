"""How a session stands, for operators."""

from __future__ import annotations

from typing import Any, Final

from recorderd.core.messages import RecordingState
from recorderd.record.session import Recording
from recorderd.record.source import Source

STATE_WORDS: Final = {RecordingState.ON: "recording"}  # the other states are their own words
_STREAM_FIELDS: Final = (
    *("stream", "label", "channel", "encoding", "packets_received", "packets_lost", "packets_late"),
    *("packets_malformed", "packets_foreign", "rms_dbfs", "peak_dbfs"),
)


def describe(recording: Recording, source: Source) -> dict[str, Any]:
    """Describe a session and its streams."""
    started = recording.started
    return {
        "session": started.session,
        "call_id": started.description.call_id,
        "caller": started.description.caller,
        "callee": started.description.callee,
        "started_utc_ns": started.at_utc_ns,
        "recorded_s": round((recording.written - recording.origin) / recording.rate_hz, 3),
        "paused_s": round(recording.paused_samples() / recording.rate_hz, 3),
        "state": _state_word(recording),
        "rule": started.terms.rule,
        "mode": started.terms.mode.value,
        "streams": [
            {name: getattr(entry, name) for name in _STREAM_FIELDS} for entry in recording.entries(source)
        ],
    }


def _state_word(recording: Recording) -> str:
    if recording.failed:
        return "failed"
    if recording.ended is not None:
        return "ending"
    return STATE_WORDS.get(recording.state, recording.state.value)
