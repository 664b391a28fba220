"""Answers to INVITEs that the library left to us.

Contract: every INVITE gets exactly one final answer; a refusal is one event. A call that was refused is held
until the library says that it is over, for a call that is dropped answers 603. Thread: the SIP thread.
"""

from __future__ import annotations

import contextlib

import pjsua2

from recorderd.core.events import Ev, EventLog
from recorderd.sip.library import LINES_MAX, RecorderCall, sip_header


class Answering:
    """Gives the answers."""

    def __init__(self, *, log: EventLog) -> None:
        self._log = log
        self._refused: list[RecorderCall] = []
        self._acceptances: dict[int, pjsua2.CallOpParam] = {}  # by their number of lines; the library copies

    def accept(self, call: RecorderCall, *, lines: int) -> None:
        """Answer 200; the library asks for the SDP meanwhile.

        Errors: pjsua2.Error when the dialog is over already.
        """
        lines = min(lines, LINES_MAX)
        answer = self._acceptances.get(lines)
        if answer is None:
            answer = self._acceptances[lines] = pjsua2.CallOpParam(True)
            answer.statusCode = 200
            options = answer.opt
            options.audioCount = lines
            options.videoCount = options.textCount = 0
        call.answer(answer)

    def refuse(
        self,
        call: RecorderCall,
        code: int,
        reason: str,
        *,
        event: Ev = Ev.SESSION_REFUSED,
        retry_after_s: int = 0,
        say_why: bool = False,
    ) -> None:
        """Answer with a refusal; ``say_why`` adds a Reason header."""
        write = self._log.info if event is Ev.SESSION_NOT_RECORDED else self._log.warning
        write(event, subject=str(code), reason=reason)
        self._refused.append(call)
        answer = pjsua2.CallOpParam()
        answer.statusCode = code
        if retry_after_s:
            answer.txOption.headers.append(sip_header("Retry-After", str(retry_after_s)))
        if say_why:
            text = reason.replace("\\", "").replace('"', "'")
            answer.txOption.headers.append(sip_header("Reason", f'SIP;cause={code};text="{text}"'))
        with contextlib.suppress(pjsua2.Error):  # the dialog may be over already
            call.answer(answer)

    def over(self, call: RecorderCall) -> None:
        """Let go of a call that is over."""
        if self._refused:
            self._refused = [entry for entry in self._refused if entry is not call]
