"""Which dialogs meet in one session, and when it is over."""

from __future__ import annotations

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.ids import DialogId
from recorderd.core.messages import CallDescription, Origin
from recorderd.sip.sessions import Session, SessionBook

CALL = CallDescription(call_id="c", origin=Origin.LEG)
A, B = DialogId("a"), DialogId("b")


def _join(book: SessionBook, dialog: DialogId, key: str = "leg:c") -> tuple[Session, bool]:
    return book.join(dialog, key=key, description=CALL, at_utc_ns=0)


def test_legs_of_one_call_meet_and_the_session_ends_with_the_last() -> None:
    book = SessionBook()
    first, new = _join(book, A)
    second, again = _join(book, B)
    assert first is second
    assert (new, again) == (True, False)
    streams = [first.name_stream(A), first.name_stream(B), first.name_stream(B)]
    assert [name.rpartition("/")[2] for name in streams] == ["1", "2", "3"]
    left = book.leave(B, at_mono_ns=0)
    assert left is not None
    assert (left.streams, left.is_over) == (streams[1:], False)
    left = book.leave(A, at_mono_ns=5 * NS_PER_S)
    assert left is not None
    assert (left.streams, left.is_over, left.ended_mono_ns) == (streams[:1], True, 5 * NS_PER_S)
    assert len(book) == 0


def test_a_call_id_that_comes_again_is_a_new_session() -> None:
    book = SessionBook()
    first, _ = _join(book, A)
    book.leave(A, at_mono_ns=0)
    second, new = _join(book, A)
    assert new
    assert first.session != second.session


def test_other_calls_stay_apart_and_an_unknown_dialog_is_nobody() -> None:
    book = SessionBook()
    first, _ = _join(book, A, "leg:1")
    second, _ = _join(book, B, "leg:2")
    assert first is not second
    assert book.leave(DialogId("z"), at_mono_ns=0) is None


def test_legs_that_are_hung_up_one_after_the_other_end_with_the_first() -> None:
    book = SessionBook()
    _join(book, A)
    _join(book, B)
    book.leave(A, at_mono_ns=1000 * NS_PER_MS)
    left = book.leave(B, at_mono_ns=1100 * NS_PER_MS)
    assert left is not None
    assert left.ended_mono_ns == 1000 * NS_PER_MS


def test_a_leg_that_left_long_ago_does_not_end_the_call() -> None:
    book = SessionBook()
    _join(book, A)
    _join(book, B)
    book.leave(A, at_mono_ns=1 * NS_PER_S)
    _join(book, A)
    left = book.leave(A, at_mono_ns=4 * NS_PER_S)
    assert left is not None
    left = book.leave(B, at_mono_ns=9 * NS_PER_S)
    assert left is not None
    assert left.ended_mono_ns == 9 * NS_PER_S
