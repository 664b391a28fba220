"""The edges at which recorderd is killed: of a session's conduct, and of what its recording is told.

Three moments of a running recorder are watched, named as the modules are whose they are:
  recorderd.sip.conductor   an edge of ``policy/modes``: a state, and what somebody or time asks of it
  recorderd.sip.standing    a message, when it is left to the next process, before the recording hears of it
  recorderd.record.recorder a message, when the recording takes it
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final, get_args

from recorderd.app import continuing
from recorderd.core.messages import ControlAction, RecordingChanged, RecordMessage, SessionRefused
from recorderd.policy.modes import EDGES
from recorderd.record import recorder
from recorderd.sip import conductor, standing

CONDUCT: Final = conductor.__name__
LEFT: Final = standing.__name__
TAKEN: Final = recorder.__name__
RELEASE: Final = (
    continuing.__name__
)  # no edge: the program is of a release that left another form of sessions
MODULES: Final = (CONDUCT, LEFT, TAKEN, RELEASE)
BEFORE, AFTER = "before", "after"

# What moves a session besides the table: it has one edge each.
WAITS: Final = {
    ("WAITING", "PROMPT_ENDED"),
    ("WAITING", "CONSENT"),
    ("WAITING", "CONSENT_TIMED_OUT"),
    ("ON", "OBJECT"),
    ("PAUSED", "PAUSE_TIMED_OUT"),
}
NOTED_ELSEWHERE: Final = {ControlAction.RESTARTED}  # no session is asked for it


def event_name(message: object) -> str:
    """Name a message; a change by what has made it."""
    kind = type(message).__name__
    return f"{kind}:{message.action.name}" if isinstance(message, RecordingChanged) else kind


def all_edges() -> set[tuple[str, str, str, str]]:
    """List everything that a recorder can be killed at: module, state, event, before or after it."""
    conduct = {(state.name, action.name) for state, action in EDGES} | WAITS
    assert {name for _, name in conduct} == {row.name for row in ControlAction} - {
        row.name for row in NOTED_ELSEWHERE
    }, "an action without an edge"
    plain = [kind for kind in get_args(RecordMessage) if kind is not RecordingChanged]
    changes = {f"{RecordingChanged.__name__}:{row.name}" for row in ControlAction}
    messages = {kind.__name__ for kind in plain} | changes
    left = messages - {SessionRefused.__name__, f"{RecordingChanged.__name__}:RESTARTED"}
    return {
        *((CONDUCT, state, event, how) for state, event in conduct for how in (BEFORE, AFTER)),
        *((LEFT, "", event, BEFORE) for event in left),
        *((TAKEN, "", event, how) for event in messages for how in (BEFORE, AFTER)),
    }


def watch(edge: dict[str, Any]) -> None:
    """Let this process end at an edge; or be of another release."""
    if edge["module"] == RELEASE:
        continuing.FORMAT = bytes(32)  # type: ignore[misc]
        return
    wanted = (edge["state"], edge["event"])
    passed = 0

    def guarded(taken: tuple[str, str], step: Callable[[], Any]) -> Any:
        nonlocal passed
        passed += taken == wanted
        strikes = taken == wanted and passed == edge["passing"]
        if strikes and edge["how"] == BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        result = step()
        if strikes:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    if edge["module"] == CONDUCT:
        step = conductor.step

        def watched(conduct: Any, action: Any, **options: Any) -> Any:
            return guarded((conduct.state.name, action.name), lambda: step(conduct, action, **options))

        conductor.step = watched  # type: ignore[assignment]
        return
    owner: Any = standing.Standing if edge["module"] == LEFT else recorder.Recorder
    name = "tell" if edge["module"] == LEFT else "handle"
    method = getattr(owner, name)
    setattr(
        owner,
        name,
        lambda self, message: guarded(("", event_name(message)), lambda: method(self, message)),
    )
