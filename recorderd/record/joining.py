"""Two calls that became one: a stream leaves one recording and goes on in another, without a hole.

Contract: both recordings agree on one instant that neither has rendered yet. The one that loses the stream
has its samples before, the other those from there on; the ring keeps its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from recorderd.core.ids import SessionId
from recorderd.core.messages import StreamMoved
from recorderd.record.session import Recording
from recorderd.record.source import Source
from recorderd.record.steering import Steering
from recorderd.record.track import Track


def move_stream(message: StreamMoved, *, into: Recording, come_from: Recording, source: Source) -> None:
    """Hand a stream from one recording to another, and let each know of the other."""
    left = come_from.tracks[message.opened.stream]
    at_mono_ns = max(
        message.at_mono_ns, come_from.mono_ns_at(come_from.rendered), into.mono_ns_at(into.rendered)
    )
    leaves_at = come_from.samples_at(at_mono_ns)
    left.let_go(source, head=come_from.rendered, at=leaves_at, start_mono_ns=come_from.started.at_mono_ns)
    track = Track(
        opened=message.opened,
        rate_hz=into.rate_hz,
        codecs=left.codecs,
        taken_on_from=come_from.started.session,
        steering=Steering(policy=into.skew),
    )
    into.add(track)
    track.take_on(left, leaves_at=leaves_at, comes_at=into.samples_at(at_mono_ns))
    at_ns = at_mono_ns - into.started.at_mono_ns
    session = come_from.started.session
    into.notes.took_on(at_ns=at_ns, call_id=message.call_id, session=session)
    into.files.took_on(at_ns=at_ns, call_id=message.call_id, session=session)
    call_id = into.started.description.call_id
    come_from.notes.went_on_in(session=into.started.session, call_id=call_id)
    come_from.files.went_on_in(session=into.started.session, call_id=call_id)


def render_absorbed(into: Recording, absorbed: Recording, source: Source) -> None:
    """Give a recording that left streams here its part of them, before the rest is taken."""
    left = [absorbed.tracks[stream].let_go_at for stream in into.tracks if stream in absorbed.tracks]
    until = max((at for at in left if at is not None), default=0)
    absorbed.render(source, until=until)


def in_order(sessions: Mapping[SessionId, Recording]) -> list[Recording]:
    """List the sessions, each behind those that have left it a stream."""
    ordered: dict[SessionId, Recording] = {}
    for recording in sessions.values():
        _visit(recording, sessions, ordered, set())
    return list(ordered.values())


def _visit(
    recording: Recording,
    sessions: Mapping[SessionId, Recording],
    ordered: dict[SessionId, Recording],
    visiting: set[SessionId],
) -> None:
    session = recording.started.session
    if session in ordered or session in visiting:
        return
    for join in recording.notes.joins:
        absorbed = sessions.get(SessionId(join.session))
        if absorbed is not None:
            _visit(absorbed, sessions, ordered, visiting | {session})
    ordered[session] = recording
