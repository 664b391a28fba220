"""Every break of a chain is found and named, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from recorderd.archive.lineage import Break, Place, judge_chains, judge_shelf
from recorderd.archive.place_shelf import PlaceShelf
from recorderd.archive.verdicts import Verdict
from recorderd.wire.chain_head import HeadBody
from recorderd.wire.manifest import GENESIS_SHA256
from recorderd.wire.shed_note import ShedNote, parse_shed_note


def _digest(number: int) -> str:
    return f"{number:064x}" if number else GENESIS_SHA256


def _chain(count: int, *, recorder_id: str = "rec-1") -> list[Place]:
    return [
        Place(
            recorder_id=recorder_id,
            recording_id=f"r{number}",
            sequence=number,
            previous_manifest_sha256=_digest(number - 1),
            manifest_sha256=_digest(number),
            signed_utc_s=1000 + number,
        )
        for number in range(1, count + 1)
    ]


def _heads(*sequences: int, recorder_id: str = "rec-1") -> list[HeadBody]:
    heads: list[HeadBody] = []
    for number, sequence in enumerate(sequences, start=1):
        before = heads[-1] if heads else None
        heads.append(
            HeadBody(
                recorder_id=recorder_id,
                number=number,
                previous_head_sha256=before.sha256 if before else GENESIS_SHA256,
                sequence=sequence,
                manifest_sha256=_digest(sequence),
                count=sequence - (before.sequence if before else 0),
                cause="hour",
                stated_at=f"2026-11-28T{number:02d}:00:00.000Z",
            )
        )
    return heads


def _told(breaks: tuple[Break, ...]) -> list[tuple[int, str]]:
    return [(entry.sequence, entry.code) for entry in breaks]


@given(st.permutations(_chain(8)))
def test_a_whole_chain_is_whole_in_whatever_order_it_is_read(places: list[Place]) -> None:
    assert judge_chains(places, _heads(0, 3, 8)) == ()


@given(st.integers(2, 11))
def test_an_entry_that_is_missing_is_named(gone: int) -> None:
    places = [place for place in _chain(12) if place.sequence != gone]
    (entry,) = judge_chains(places)
    assert (entry.sequence, entry.code, entry.verdict) == (gone, "missing", Verdict.BAD)
    assert f"{gone} is missing" in entry.reason


def test_a_run_that_is_missing_is_told_by_its_ends() -> None:
    places = [place for place in _chain(12) if not 4 <= place.sequence <= 7]
    (entry,) = judge_chains(places)
    assert entry.reason == "4 to 7 are missing (before 8)"


def test_what_came_before_the_first_that_is_here_cannot_be_told() -> None:
    (entry,) = judge_chains(_chain(12)[5:])
    assert (entry.code, entry.verdict, entry.reason) == ("beginning", Verdict.UNKNOWN, "1 to 5 are not here")


def test_the_end_of_a_chain_that_was_cut_off_is_found_by_a_head_and_by_nothing_else() -> None:
    cut = _chain(12)[:9]
    assert judge_chains(cut) == ()
    (entry,) = judge_chains(cut, _heads(4, 12))
    assert entry.reason == "10 to 12 are missing (a signed head states 12)"


def test_a_whole_chain_that_was_removed_is_found_by_its_head() -> None:
    (entry,) = judge_chains([], _heads(3))
    assert entry.reason == "1 to 3 are missing (a signed head states 3)"


@given(st.integers(1, 11))
def test_an_altered_entry_is_found_by_the_one_that_follows_it(which: int) -> None:
    places = _chain(12)
    places[which - 1] = replace(places[which - 1], manifest_sha256="f" * 64)
    (entry,) = judge_chains(places)
    assert (entry.sequence, entry.code) == (which + 1, "altered")
    assert f"r{which} at {which} is not" in entry.reason


def test_an_altered_newest_entry_is_found_by_a_head() -> None:
    places = _chain(12)
    places[-1] = replace(places[-1], manifest_sha256="f" * 64)
    assert judge_chains(places) == ()
    assert _told(judge_chains(places, _heads(12))) == [(12, "altered")]


def test_an_altered_first_entry_that_follows_something_is_found() -> None:
    places = _chain(3)
    places[0] = replace(places[0], previous_manifest_sha256="f" * 64)
    assert _told(judge_chains(places)) == [(1, "altered")]


def test_two_entries_with_one_number_are_named_both() -> None:
    other = replace(_chain(12)[4], recording_id="other", manifest_sha256="f" * 64)
    (entry,) = judge_chains([*_chain(12), other])
    assert (entry.sequence, entry.code, entry.reason) == (5, "doubled", "two entries: other, r5")


def test_an_entry_that_comes_twice_is_told_from_two_entries() -> None:
    (entry,) = judge_chains([*_chain(12), _chain(12)[4]])
    assert (entry.sequence, entry.code) == (5, "replayed")


def test_a_recording_that_was_given_a_second_place_is_found() -> None:
    again = replace(_chain(7)[6], recording_id="r3")
    (entry,) = judge_chains([*_chain(6), again])
    assert (entry.sequence, entry.code) == (7, "doubled")
    assert "r3 has several places: 3, 7" in entry.reason


def test_entries_that_changed_places_are_told_from_altered_ones() -> None:
    places = _chain(6)
    places[2] = replace(places[2], sequence=4)
    places[3] = replace(places[3], sequence=3)
    told = _told(judge_chains(places))
    assert {sequence for sequence, code in told if code == "reordered"} == {3, 4, 5}
    assert not [code for _, code in told if code == "altered"]


@given(st.integers(1, 11), st.integers(2, 1000))
def test_a_clock_that_went_back_is_named_and_leaves_doubt_not_guilt(after: int, back_s: int) -> None:
    places = _chain(after) + [
        replace(place, signed_utc_s=place.signed_utc_s - back_s)
        for place in _chain(12)[after:]
        if place.signed_utc_s is not None
    ]
    (entry,) = judge_chains(places)
    assert (entry.sequence, entry.code, entry.verdict) == (after + 1, "clock", Verdict.UNKNOWN)
    assert f"signed {back_s - 1} s before {after}" in entry.reason


def test_recorders_have_chains_of_their_own() -> None:
    places = _chain(5) + [place for place in _chain(5, recorder_id="rec-2") if place.sequence != 3]
    (entry,) = judge_chains(places, _heads(5))
    assert (entry.recorder_id, entry.sequence) == ("rec-2", 3)


def test_a_head_that_is_missing_doubled_or_out_of_line_is_found() -> None:
    places, heads = _chain(9), _heads(2, 4, 6, 9)
    assert judge_chains(places, heads) == ()
    (entry,) = judge_chains(places, [heads[0], *heads[2:]])
    assert entry.reason == "head 2 is missing"
    other = replace(heads[1], stated_at="2026-11-28T02:30:00.000Z")
    assert "two heads have number 2" in [entry.reason for entry in judge_chains(places, [*heads, other])]
    (entry,) = judge_chains(places, [heads[0], replace(heads[1], previous_head_sha256="f" * 64)])
    assert entry.reason == "head 2 does not follow head 1"
    (entry,) = judge_chains(places, [heads[0], replace(heads[1], count=3)])
    assert entry.reason == "head 2 counts 3 entries from 2 to 4"
    (entry,) = judge_chains(places, [heads[0], replace(heads[1], stated_at="2026-11-27T00:00:00.000Z")])
    assert (entry.code, entry.verdict) == ("clock", Verdict.UNKNOWN)


def test_a_thousand_holes_do_not_make_a_thousand_lines() -> None:
    breaks = judge_chains(_chain(2001)[::2])
    assert len(breaks) == 21
    assert breaks[-1].reason == "980 more runs are missing"


def _shed(places: list[Place], sequence: int, *, digest: str) -> list[Place]:
    """Take a recording away; the last entry says that it was deleted unsent."""
    note = ShedNote(recording_id=f"r{sequence}", sequence=sequence, manifest_sha256=digest)
    assert parse_shed_note(str(note)) == note
    *left, last = places
    return [*(row for row in left if row.sequence != sequence), replace(last, shed=note)]


def test_the_place_of_a_recording_that_was_shed_is_held_by_the_entry_that_says_so() -> None:
    assert judge_chains(_shed(_chain(8), 3, digest=_digest(3)), _heads(0, 3, 8)) == ()


def test_an_entry_that_names_another_manifest_than_was_shed_holds_no_place() -> None:
    breaks = judge_chains(_shed(_chain(8), 3, digest=_digest(9)), _heads(0, 3, 8))
    assert _told(breaks) == [(4, "altered"), (3, "altered")]


def test_an_entry_holds_no_place_behind_its_own() -> None:
    places = _chain(8)
    note = ShedNote(recording_id="r5", sequence=5, manifest_sha256=_digest(5))
    places[1] = replace(places[1], shed=note)
    del places[4]
    assert (5, "missing") in _told(judge_chains(places))


_DAMAGE = st.lists(
    st.tuples(
        st.sampled_from(["drop", "double", "replay", "swap", "relink", "rename", "late", "shed", "other"]),
        st.integers(0, 11),
        st.integers(0, 11),
    ),
    max_size=6,
)


def _damaged(damage: list[tuple[str, int, int]]) -> list[Place]:
    places = _chain(12)
    for kind, at, other in damage:
        row = places[at % len(places)]
        if kind == "drop" and len(places) > 1:
            places.remove(row)
        elif kind == "double":
            places.append(replace(row, recording_id=f"x{other}", manifest_sha256=_digest(100 + other)))
        elif kind == "replay":
            places.append(row)
        elif kind == "swap":
            places[at % len(places)] = replace(row, sequence=other + 1)
        elif kind == "relink":
            places[at % len(places)] = replace(row, previous_manifest_sha256=_digest(other))
        elif kind == "rename":
            places[at % len(places)] = replace(row, recording_id=f"r{other}")
        elif kind == "late":
            places[at % len(places)] = replace(row, signed_utc_s=other or None)
        elif kind == "shed":
            note = ShedNote(recording_id=f"r{other}", sequence=other + 1, manifest_sha256=_digest(other + 1))
            places[at % len(places)] = replace(row, shed=note)
        else:
            places.append(replace(row, recorder_id="rec-2"))
    return places


@given(_DAMAGE, st.lists(st.integers(1, 14), max_size=4))
def test_what_lies_on_the_disk_is_judged_as_what_is_in_memory(
    damage: list[tuple[str, int, int]], heads: list[int]
) -> None:
    places = _damaged(damage)
    stated = [*_heads(*sorted(heads)), *_heads(3, recorder_id="rec-3")]
    with PlaceShelf() as shelf:
        for place in places:
            shelf.put(place)
        assert judge_shelf(shelf, stated) == judge_chains(places, stated)
