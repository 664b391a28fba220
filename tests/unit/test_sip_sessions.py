"""Which dialogs meet in one session, and when it is over."""

from __future__ import annotations

from dataclasses import replace

from recorderd.core.clock import NS_PER_MS, NS_PER_S
from recorderd.core.ids import DialogId
from recorderd.core.messages import CallDescription, Origin
from recorderd.core.terms import RecordingTerms
from recorderd.policy.modes import begin
from recorderd.policy.numbers import Numbering
from recorderd.sip.sessions import Session, SessionBook

CALL = CallDescription(call_id="c", origin=Origin.LEG)
A, B = DialogId("a"), DialogId("b")


def _begin(
    book: SessionBook, key: str, *, parties: frozenset[str] = frozenset(), at_mono_ns: int = 0
) -> Session:
    return book.begin(
        key=key, description=CALL, terms=RecordingTerms(), conduct=begin(RecordingTerms()), parties=parties,
        at_mono_ns=at_mono_ns, at_utc_ns=0,
    )  # fmt: skip


def _join(book: SessionBook, dialog: DialogId, key: str = "leg:c") -> tuple[Session, bool]:
    """Put a dialog into the session of a key; True when the session is new."""
    known = book.find(key)
    session = known or _begin(book, key)
    book.enter(session, dialog)
    return session, known is None


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


PAIR = frozenset({"1001", "1002"})


def test_legs_without_a_call_id_find_each_other_by_their_parties_while_they_are_fresh() -> None:
    book = SessionBook()
    first = _begin(book, "dialog:1", parties=PAIR, at_mono_ns=10 * NS_PER_S)
    book.enter(first, A)
    assert book.pair(PAIR, at_mono_ns=11 * NS_PER_S) is first
    assert book.pair(frozenset({"1001", "1003"}), at_mono_ns=11 * NS_PER_S) is None
    assert book.pair(frozenset(), at_mono_ns=11 * NS_PER_S) is None
    assert book.pair(PAIR, at_mono_ns=13 * NS_PER_S) is None


def test_a_pair_that_is_whole_takes_no_third_leg() -> None:
    book = SessionBook()
    first = _begin(book, "dialog:1", parties=PAIR)
    book.enter(first, A)
    book.enter(first, B)
    assert book.pair(PAIR, at_mono_ns=NS_PER_S) is None


def test_a_session_that_absorbs_another_is_found_by_both_keys_and_ends_with_the_last_of_all() -> None:
    book = SessionBook()
    first, second = _begin(book, "call:1"), _begin(book, "call:2")
    book.enter(first, A)
    book.enter(second, B)
    one, two = first.name_stream(A), second.name_stream(B)
    assert book.absorb(first, second) == [(B, two)]
    assert book.find("call:2") is book.find("call:1") is first
    assert len(book) == 1
    left = book.leave(A, at_mono_ns=0)
    assert left is not None
    assert (left.streams, left.is_over) == ([one], False)
    left = book.leave(B, at_mono_ns=0)
    assert left is not None
    assert (left.session, left.streams, left.is_over) == (first, [two], True)
    assert book.find("call:2") is None


def test_the_call_of_a_user_is_the_one_that_began_last() -> None:
    book = SessionBook()
    for number, key in enumerate(("call:1", "call:2")):
        session = _begin(book, key, at_mono_ns=number)
        callee = f"200{number}"
        session.description = CallDescription(call_id=key, origin=Origin.LEG, caller="1001", callee=callee)
    plan = Numbering(country_code="44", trunk_prefix="0")
    newest = book.of_user("1001", numbering=plan)
    assert newest is not None
    assert newest.keys == {"call:2"}
    assert book.of_user("2000", numbering=plan) is book.find("call:1")
    assert [book.of_user(user, numbering=plan) for user in ("", "9")] == [None, None]
    newest.description = replace(newest.description, caller="+442079460100")
    assert book.of_user("02079460100", numbering=plan) is newest
