"""Call records of an exchange against recordings: what is missing, what is too much, what cannot be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from recorderd.policy.reconciliation import (
    CallRecord,
    Ground,
    KeptCall,
    Reconciliation,
    Standing,
    reconcile,
)

DAY_MS = 1_795_392_000_000
CALL = CallRecord(
    record_id=1,
    call_ids=("linked-1", "unique-1"),
    caller="+442079460123",
    callee="1001",
    extension="",
    trunk="",
    queue="",
    direction="",
    started_ms=DAY_MS,
    answered_ms=DAY_MS + 4_000,
    ended_ms=DAY_MS + 64_000,
    is_answered=True,
)
KEPT = KeptCall(
    row_id=1,
    recording_id="r-1",
    recorder_id="rec-1",
    call_id="linked-1",
    parties=frozenset({"+442079460123", "1001"}),
    extension="1001",
    started_ms=DAY_MS + 4_000,
    ended_ms=DAY_MS + 64_000,
    state="archived",
)


def judge(
    records: Sequence[CallRecord], kept: Sequence[KeptCall], *, wanted: bool = True, tolerance_ms: int = 2_000
) -> Reconciliation:
    return reconcile(records, kept, wanted=lambda _: (wanted, "a rule"), tolerance_ms=tolerance_ms)


def standing(record: CallRecord, *kept: KeptCall, wanted: bool = True) -> tuple[Standing, Ground | None]:
    (row,) = judge([record], kept, wanted=wanted).calls
    return row.standing, row.ground


def test_a_call_is_found_by_any_of_its_identifiers() -> None:
    for call_id in CALL.call_ids:
        stranger = replace(KEPT, call_id=call_id, parties=frozenset({"9999"}), extension="9999")
        assert standing(CALL, stranger) == (Standing.RECORDED, Ground.ID)


def test_an_identifier_that_came_again_another_day_is_another_call() -> None:
    later = replace(KEPT, started_ms=KEPT.started_ms + 86_400_000, ended_ms=KEPT.ended_ms + 86_400_000)
    found = judge([CALL], [later])
    assert found.calls[0].standing is Standing.MISSING
    assert found.nobodys == (later,)


def test_without_identifiers_both_numbers_and_the_time_decide() -> None:
    assert standing(CALL, replace(KEPT, call_id="")) == (Standing.RECORDED, Ground.NUMBERS)
    other = replace(KEPT, call_id="", parties=frozenset({"+442079460123", "1002"}), extension="1002")
    assert standing(replace(CALL, callee="1001"), other)[1] is not Ground.NUMBERS


def test_one_number_speaks_only_for_the_one_recording_that_fits() -> None:
    hidden = replace(KEPT, call_id="", parties=frozenset({"1001"}))
    assert standing(CALL, hidden) == (Standing.RECORDED, Ground.ONE_NUMBER)
    twin = replace(hidden, row_id=2, recording_id="r-2")
    assert standing(CALL, hidden, twin) == (Standing.MISSING, None)


def test_a_recording_that_ends_before_the_talk_is_short_by_what_is_missing() -> None:
    (row,) = judge([CALL], [replace(KEPT, ended_ms=CALL.ended_ms - 20_000)]).calls
    assert (row.standing, row.uncovered_ms) == (Standing.SHORT, 20_000)


def test_parts_make_a_whole() -> None:
    first = replace(KEPT, ended_ms=DAY_MS + 30_000)
    second = replace(KEPT, row_id=2, recording_id="r-2", started_ms=DAY_MS + 30_000)
    assert standing(CALL, second, first) == (Standing.RECORDED, Ground.ID)


def test_a_signed_entry_without_audio_explains_and_does_not_record() -> None:
    assert standing(CALL, replace(KEPT, state="objected")) == (Standing.EXPLAINED, Ground.ID)


def test_what_no_rule_wants_is_told_when_it_was_recorded_all_the_same() -> None:
    assert standing(CALL, KEPT, wanted=False)[0] is Standing.AGAINST_RULES
    assert standing(CALL, wanted=False)[0] is Standing.NOT_WANTED


def test_a_call_that_nobody_answered_is_not_missing() -> None:
    assert standing(replace(CALL, is_answered=False))[0] is Standing.NOT_WANTED


def test_a_recording_of_which_no_record_tells_is_nobodys_and_a_hidden_one_cannot_be_told() -> None:
    hidden = replace(KEPT, row_id=2, call_id="", parties=frozenset(), extension="")
    found = judge([], [KEPT, hidden])
    assert (found.nobodys, found.hidden) == ((KEPT,), (hidden,))


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 300), st.integers(1, 100), st.booleans()), max_size=25
    )
)
def test_no_recorded_call_is_ever_called_missing(calls: list[tuple[int, int, int, bool]]) -> None:
    records, kept = [], []
    for number, (who, start_s, length_s, by_id) in enumerate(calls):
        started_ms = DAY_MS + start_s * 1000
        ended_ms = started_ms + length_s * 1000
        records.append(
            replace(
                CALL,
                record_id=number,
                call_ids=(f"c{number}",),
                caller=f"20{who}",
                callee=f"30{number}",
                started_ms=started_ms,
                answered_ms=started_ms,
                ended_ms=ended_ms,
            )
        )
        kept.append(
            replace(
                KEPT,
                row_id=number,
                recording_id=f"r{number}",
                call_id=f"c{number}" if by_id else "",
                parties=frozenset({f"20{who}", f"30{number}"}),
                extension=f"20{who}",
                started_ms=started_ms,
                ended_ms=ended_ms,
            )
        )
    found = judge(records, kept)
    for row in found.calls:
        assert row.standing is Standing.RECORDED
        assert f"r{row.record.record_id}" in {one.recording_id for one in row.kept}
    assert found.nobodys == ()
