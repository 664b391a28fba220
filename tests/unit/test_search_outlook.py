"""What is done next for a page that is not full: which way, and how far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.archive.search_spans import WALK, Outlook, Step, Way

ROWS = 10_000_000.0
WALKED = Way(share=1.0)


def outlook(expected: float, **ways: Way) -> Outlook:
    """Be behind a short walk that has found what was to be expected."""
    return Outlook(
        ways={WALK: WALKED, **ways},
        all_rows=ROWS,
        left_rows=ROWS,
        expected=expected,
        place_steps=6.0,
        seen_rows=10_000.0,
        hits=int(expected * 10_000),
    )


@pytest.mark.parametrize(
    ("expected", "ways", "way"),
    [
        # a part in one number of 150, and a queue: a page is near
        (2e-3, {"part": Way(share=0.0066, places=14_000)}, WALK),
        # and a queue of one call in thirty: its rows are fewer than the numbers' places
        (
            2e-4,
            {"part": Way(share=0.0066, places=14_000), "facets": Way(share=0.03, places=620)},
            "facets",
        ),
        # a part that is in few numbers
        (2e-6, {"part": Way(share=0.0001, places=300), "facets": Way(share=0.03, places=620)}, "part"),
        # calls of half an hour: fewer in all than must be walked
        (
            5e-5,
            {"part": Way(share=0.0066, places=14_000), "durations": Way(share=0.006, has_times=False)},
            "durations",
        ),
        # but where each of its rows is looked up, to walk is cheaper
        (5e-4, {"durations": Way(share=0.006, has_times=False, steps=16.0)}, WALK),
    ],
)
def test_the_cheapest_way_is_taken(expected: float, ways: dict[str, Way], way: str) -> None:
    assert outlook(expected, **ways).step(51).way == way


def test_a_span_is_as_long_as_a_page_needs_and_the_way_there_is_worth() -> None:
    near = outlook(1e-3).step(51)
    assert 51 / 1e-3 < near.part * ROWS < 3 * 51 / 1e-3
    far = outlook(1e-3, facets=Way(share=1e-4, places=620)).step(51)
    assert far.way == "facets"
    assert far.part * ROWS * 1e-4 >= min(620 * 6.0, 0.99 * ROWS * 1e-4)


def test_what_spans_have_given_counts_more_than_the_sample() -> None:
    hopeful = outlook(2e-3, part=Way(share=0.001, places=14_000))
    assert hopeful.step(51).way == WALK
    hopeful.done(Step(way=WALK, part=0.1), 0)
    assert hopeful.step(51).way == "part"


@given(
    expected=st.floats(1e-12, 1.0),
    rows=st.floats(0.0, 1e9),
    share=st.floats(0.0, 1.0),
    places=st.integers(0, 40_000),
    hits=st.lists(st.integers(0, 2), min_size=25, max_size=25),
)
def test_the_end_of_the_rows_comes_after_few_spans_whatever_was_estimated(
    expected: float, rows: float, share: float, places: int, hits: list[int]
) -> None:
    view = outlook(expected, part=Way(share=share, places=places))
    view.left_rows, missing = rows, 51
    for found in hits:
        step = view.step(max(missing, 1))
        assert 0 < step.part <= 1
        view.done(step, found)
        missing -= found
        if step.part == 1 or missing <= 0:
            return
    raise AssertionError("rows are left after 25 spans")
