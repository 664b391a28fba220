"""The names of everything that the recorder can say; texts stand in config/prompts."""

from __future__ import annotations

from enum import StrEnum


class Prompt(StrEnum):
    """A prompt; the value is the name of its text and of its WAV file."""

    # answers to whoever changed a recording
    RECORDING_STARTED = "recording_started"
    RECORDING_ACTIVE = "recording_active"
    RECORDING_STOPPED = "recording_stopped"
    RECORDING_PAUSED = "recording_paused"
    RECORDING_RESUMED = "recording_resumed"
    CONSENT_NOTED = "consent_noted"
    OBJECTION_NOTED = "objection_noted"
    NOT_POSSIBLE = "not_possible"
    # why not; said after NOT_POSSIBLE
    NO_CALL = "no_call"
    NOT_ALLOWED = "not_allowed"
    ALWAYS_RECORDED = "always_recorded"
    NEVER_RECORDED = "never_recorded"
    NOT_PAUSABLE = "not_pausable"
    NOT_STARTED = "not_started"
    ALREADY_ACTIVE = "already_active"
    ALREADY_PAUSED = "already_paused"
    NOT_PAUSED = "not_paused"
    OBJECTED = "objected"
    CONSENT_AWAITED = "consent_awaited"
    RECORDER_FULL = "recorder_full"
    FAULT = "fault"
    # before recording begins, and while it runs
    THIS_CALL_IS_RECORDED = "this_call_is_recorded"
    CONSENT_QUESTION = "consent_question"
    BEEP = "beep"  # a tone, the same in every language


SPOKEN: tuple[Prompt, ...] = tuple(prompt for prompt in Prompt if prompt is not Prompt.BEEP)
