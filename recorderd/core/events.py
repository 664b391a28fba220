"""The event log: one enum names every event, each with a journal MESSAGE_ID; ids and figures are fields.

Rule: a repeated event of one subject is logged first and then at most every 60 s with its count; every
event counts, logged or not.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import uuid
from collections import Counter
from enum import Enum
from typing import Final

from recorderd.core.clock import NS_PER_S, Clock

REPEAT_AFTER_NS: Final = 60 * NS_PER_S
_SUBJECTS_MAX: Final = 4096  # forgets quiet subjects rather than grow with them
_NAMESPACE: Final = uuid.UUID("3f3f5f52-2f0e-4f0c-9d8e-7d1f5cf0a6b1")


class Ev(Enum):
    """What can happen; the value is the event's name in logs, counters and documents."""

    STARTED = "started"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REGISTERED = "registered"
    REGISTRATION_FAILED = "registration_failed"
    UNREGISTERED = "unregistered"
    SESSION_STARTED = "session_started"
    SESSION_ENDED = "session_ended"
    SESSION_REFUSED = "session_refused"
    SESSION_FAILED = "session_failed"
    SESSION_NOT_RECORDED = "session_not_recorded"
    SESSIONS_JOINED = "sessions_joined"
    MANDATORY_REFUSED = "mandatory_refused"
    RECORDING_STARTED = "recording_started"
    RECORDING_STOPPED = "recording_stopped"
    RECORDING_PAUSED = "recording_paused"
    RECORDING_RESUMED = "recording_resumed"
    RECORDING_OBJECTED = "recording_objected"
    RECORDING_ERASED = "recording_erased"
    CONSENT_GIVEN = "consent_given"
    CONSENT_TIMED_OUT = "consent_timed_out"
    CONTROL_REFUSED = "control_refused"
    PAUSE_TIMED_OUT = "pause_timed_out"
    PAUSE_LATE = "pause_late"
    PROMPT_FAILED = "prompt_failed"
    SNAPSHOT_REQUESTED = "snapshot_requested"
    STREAM_OPENED = "stream_opened"
    STREAM_ENDED = "stream_ended"
    STREAM_REFUSED = "stream_refused"
    OFFER_LEFT_OUT = "offer_left_out"
    STREAM_MALFORMED_RTP = "stream_malformed_rtp"
    STREAM_STRANGER = "stream_stranger"
    STREAM_SOURCE_REFUSED = "stream_source_refused"
    STREAM_SSRC_CHANGED = "stream_ssrc_changed"
    STREAM_TIMESTAMP_JUMPED = "stream_timestamp_jumped"
    STREAM_UNKNOWN_PAYLOAD = "stream_unknown_payload"
    STREAM_LATE = "stream_late"
    STREAM_KERNEL_DROP = "stream_kernel_drop"
    STREAM_SILENT = "stream_silent"
    STREAM_ONE_WAY = "stream_one_way"
    STREAM_SRTP_FAILED = "stream_srtp_failed"
    LIBRARY_ERROR = "library_error"
    MALFORMED_SIP = "malformed_sip"
    MALFORMED_SDP = "malformed_sdp"
    MALFORMED_METADATA = "malformed_metadata"
    RECORDING_SEALED = "recording_sealed"
    RECORDING_RECOVERED = "recording_recovered"
    RECORDING_LAID_DOWN = "recording_laid_down"
    RECORDING_QUARANTINED = "recording_quarantined"
    DRAFT_FAILED = "draft_failed"
    DRAFT_EXTENDED = "draft_extended"  # from the tail, after a power cut
    TAIL_IGNORED = "tail_ignored"
    TAIL_LEFT_OUT = "tail_left_out"
    SPOOL_FAILED = "spool_failed"
    QUEUE_FULL = "queue_full"
    LINK_UP = "link_up"
    LINK_DOWN = "link_down"
    LINK_REFUSED = "link_refused"
    MALFORMED_FRAME = "malformed_frame"
    OFFERED = "offered"
    OFFER_REFUSED = "offer_refused"
    RECEIPT_VERIFIED = "receipt_verified"
    RECEIPT_REFUSED = "receipt_refused"
    LOCAL_COPY_DELETED = "local_copy_deleted"
    RECORDING_ARCHIVED = "recording_archived"
    RECORDING_REJECTED = "recording_rejected"
    CLIENT_REFUSED = "client_refused"
    CONTROL_MALFORMED = "control_malformed"
    INTERNAL_ERROR = "internal_error"
    CHAIN_BROKEN = "chain_broken"
    RECORDING_ODD = "recording_odd"
    HEAD_STATED = "head_stated"
    HEAD_FAILED = "head_failed"
    HEAD_KEPT = "head_kept"
    HEAD_REFUSED = "head_refused"
    ENTRY_SEALED = "entry_sealed"
    ENTRY_LEFT_OUT = "entry_left_out"
    CLOCK_SYNCHRONISED = "clock_synchronised"
    CLOCK_UNSYNCHRONISED = "clock_unsynchronised"
    CLOCK_OFFSET = "clock_offset"
    CLOCK_STEPPED = "clock_stepped"
    CLOCK_SOURCE_FAILED = "clock_source_failed"
    KEY_UNUSABLE = "key_unusable"
    KEY_USABLE = "key_usable"
    KEY_CHANGED = "key_changed"
    SEAL_POSTPONED = "seal_postponed"
    CHECKPOINT_UNSIGNED = "checkpoint_unsigned"
    CHECKPOINT_UNKNOWN = "checkpoint_unknown"
    CERTIFICATE_EXPIRES = "certificate_expires"
    CERTIFICATE_EXPIRED = "certificate_expired"
    RECIPIENT_EXPIRED = "recipient_expired"
    TIMESTAMPED = "timestamped"
    TIMESTAMP_FAILED = "timestamp_failed"
    TIMESTAMP_BATCH_CLOSED = "timestamp_batch_closed"
    TIMESTAMP_BATCH_ARCHIVED = "timestamp_batch_archived"
    TIMESTAMP_CLOCKS_APART = "timestamp_clocks_apart"
    RECORDING_UNSTAMPED = "recording_unstamped"
    DEPOSIT_REFUSED = "deposit_refused"
    DEPOSIT_KEPT = "deposit_kept"
    POWER_CHANGED = "power_changed"
    POWER_SHUTDOWN = "power_shutdown"
    POWER_OUTLOOK = "power_outlook"
    UPS_STATUS = "ups_status"
    UPS_LOST = "ups_lost"
    UPS_BACK = "ups_back"
    UPS_LOGIN_REFUSED = "ups_login_refused"
    INTAKE_WITHDRAWN = "intake_withdrawn"
    INTAKE_OPEN = "intake_open"
    RECORDER_ENROLLED = "recorder_enrolled"
    RECORDER_REVOKED = "recorder_revoked"
    ENROLMENT_REFUSED = "enrolment_refused"
    PAIRING_BEHIND = "pairing_behind"
    ROSTER_BEHIND = "roster_behind"
    FRONT_END_LEADS = "front_end_leads"
    FRONT_END_FOLLOWS = "front_end_follows"
    FRONT_END_ALONE = "front_end_alone"
    ARCHIVE_REFUSES = "archive_refuses"
    ARCHIVE_TAKES = "archive_takes"
    ARCHIVE_POWER = "archive_power"
    CLOCKS_APART = "clocks_apart"
    CLOCKS_AGREE = "clocks_agree"
    RECORDER_LEAVES = "recorder_leaves"
    SPOOL_LEVEL = "spool_level"
    SPOOL_HOURS_LEFT = "spool_hours_left"
    DISK_FULL = "disk_full"
    DISK_WAITED = "disk_waited"
    RESERVE_USED = "reserve_used"
    RESERVE_FULL = "reserve_full"
    ARCHIVE_STATE = "archive_state"
    STANCE_CHANGED = "stance_changed"
    RECORDING_SHED = "recording_shed"
    SHED_TAKEN_BACK = "shed_taken_back"
    ENTRY_FAILED = "entry_failed"
    STORE_FAILED = "store_failed"
    REFUSED_FOR_GOOD = "refused_for_good"
    CALLS_HANDED_OVER = "calls_handed_over"
    RETENTION_TERMS = "retention_terms"
    RETENTION_SWEPT = "retention_swept"
    RETENTION_PUT_OFF = "retention_put_off"
    RETENTION_FAILED = "retention_failed"
    RETENTION_CLOCK_LEAPT = "retention_clock_leapt"
    RETENTION_CLASS_UNKNOWN = "retention_class_unknown"
    ERASURE_REFUSED = "erasure_refused"
    ARCHIVED_ERASED = "archived_erased"
    ARCHIVED_ANONYMISED = "archived_anonymised"
    QUOTA_NEAR = "quota_near"
    QUOTA_EXCEEDED = "quota_exceeded"
    TAP_BEHIND = "tap_behind"
    SESSION_CONTINUED = "session_continued"
    SESSION_NOT_CONTINUED = "session_not_continued"
    AUDITED = "audited"
    AUDIT_EXPORT_FAILED = "audit_export_failed"
    AUDIT_HEAD_STATED = "audit_head_stated"
    AUDIT_HEAD_FAILED = "audit_head_failed"
    SEARCH_BEHIND = "search_behind"
    SEARCH_COMPLETE = "search_complete"
    HTTP_READY = "http_ready"
    HTTP_ENDED = "http_ended"
    HTTP_FAILED = "http_failed"
    HTTP_REFUSED = "http_refused"
    HTTP_LIMITED = "http_limited"
    JOB_ENDED = "job_ended"
    JOB_FAILED = "job_failed"
    WEBHOOK_FAILED = "webhook_failed"
    RECEIPTS_BEHIND = "receipts_behind"
    STORE_BEHIND = "store_behind"
    STORE_STRAYS = "store_strays"
    DELIVERED = "delivered"
    DELIVERY_FAILED = "delivery_failed"
    MIRROR_LEFT = "mirror_left"
    MIRROR_BEHIND = "mirror_behind"
    MIRROR_WHOLE = "mirror_whole"
    SCRUB_DIFFERS = "scrub_differs"
    SCRUB_FINISHED = "scrub_finished"
    SCRUB_PUT_OFF = "scrub_put_off"
    CATALOGUE_REBUILT = "catalogue_rebuilt"

    @property
    def message_id(self) -> str:
        """The journal's MESSAGE_ID of this event: 32 hexadecimal digits, the same in every release."""
        return _message_id(self.value)


@functools.cache
def _message_id(name: str) -> str:
    return uuid.uuid5(_NAMESPACE, name).hex


class EventRecord(logging.LogRecord):
    """An event on its way to the handlers.

    What the library's own record looks for is left out: the line of code is always the event log's, and the
    process one. A call that comes and goes has a dozen events.
    """

    def __init__(self, logger: str, level: int, text: str, event: Ev, fields: dict[str, object]) -> None:
        self.name = logger
        self.msg, self.args = text, ()
        self.levelno, self.levelname = level, logging.getLevelName(level)
        self.pathname, self.filename, self.module = __file__, "events.py", "events"
        self.lineno, self.funcName = 0, "_emit"
        self.exc_info = self.exc_text = self.stack_info = None
        self.created = time.time()
        self.msecs = self.created * 1000 // 1 % 1000
        self.relativeCreated = 0.0
        self.thread, self.threadName = threading.get_ident(), threading.current_thread().name
        self.process, self.processName = None, "MainProcess"
        self.recorderd_event = event
        self.recorderd_fields = fields


class EventLog:
    """Writes events with their fields, counts all of them, thins out repetitions.

    Thread: any.
    """

    def __init__(self, *, logger: logging.Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._last: dict[tuple[Ev, str], tuple[int, int]] = {}  # (logged at, suppressed since)

    def counters(self) -> dict[str, int]:
        """Return how often each event happened since the start of the process."""
        with self._lock:
            return dict(self._counters)

    def info(self, event: Ev, *, subject: str = "", **fields: object) -> None:
        """Note an event that is as it should be."""
        self._emit(logging.INFO, event, subject, fields)

    def warning(self, event: Ev, *, subject: str = "", **fields: object) -> None:
        """Note an event that an operator may want to look at."""
        self._emit(logging.WARNING, event, subject, fields)

    def error(self, event: Ev, *, subject: str = "", **fields: object) -> None:
        """Note an event that needs an operator."""
        self._emit(logging.ERROR, event, subject, fields)

    def _emit(self, level: int, event: Ev, subject: str, fields: dict[str, object]) -> None:
        now_ns, name = self._clock.mono_ns(), event.value
        with self._lock:
            self._counters[name] += 1
            suppressed = 0
            if level > logging.INFO:
                key = (event, subject)
                last = self._last.get(key)
                if last is not None and now_ns - last[0] < REPEAT_AFTER_NS:
                    self._last[key] = (last[0], last[1] + 1)
                    return
                suppressed = last[1] if last is not None else 0
                if len(self._last) >= _SUBJECTS_MAX:
                    self._last.clear()
                self._last[key] = (now_ns, 0)
        if not self._logger.isEnabledFor(level):
            return
        if subject:
            fields = {"subject": subject, **fields}
        if suppressed:
            fields["repeated"] = suppressed
        text = " ".join([name, *[f"{key}={_one_line(value)}" for key, value in fields.items()]])
        self._logger.handle(EventRecord(self._logger.name, level, text, event, fields))


def _one_line(value: object) -> str:
    """Render a field so that no input can start a log line of its own."""
    text = str(value)
    if text.isascii() and text.isprintable() and " " not in text and text:
        return text
    return repr(text)
