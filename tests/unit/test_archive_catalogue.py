"""The catalogue's chain: whatever the order of arrival, the same recordings are linked, pending or broken."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.core.errors import CatalogueFailed
from recorderd.wire.manifest import GENESIS_SHA256


def row(sequence: int, *, previous: str = "", name: str = "") -> Entry:
    """Make a row whose manifest hash tells its number."""
    before = f"{sequence - 1:064d}" if sequence > 1 else GENESIS_SHA256
    return Entry(
        id=name or f"id-{sequence}",
        recorder_id="rec-1",
        sequence=sequence,
        previous_manifest_sha256=previous or before,
        manifest_sha256=f"{sequence:064d}",
        call_id="",
        caller="",
        callee="",
        direction="",
        extension="",
        trunk="",
        queue="",
        started_at="2026-11-23T06:22:36.125Z",
        duration_s=1.0,
        channels=2,
        sample_rate_hz=8000,
        size_bytes=1,
        state="archived",
        chain="pending",
        path=f"store/{sequence}",
        archived_at="",
        receipt=b"",
    )


def add(
    catalogue: Catalogue, entry: Entry, *, make_receipt: Callable[[int], bytes]
) -> tuple[Entry, list[Entry]]:
    """Add a single row."""
    (added,) = catalogue.add_all([(entry, make_receipt)])
    return added


def chains_of(path: Path, rows: Sequence[Entry]) -> tuple[dict[int, str], set[int]]:
    """Add rows in order; return the chain column by sequence and which were reported as broken."""
    catalogue = Catalogue(path)
    reported: set[int] = set()
    for entry in rows:
        _, broken = add(catalogue, entry, make_receipt=lambda number: b"%d" % number)
        reported |= {link.sequence for link in broken}
    chains = {entry.sequence: entry.chain for entry in catalogue.all()}
    catalogue.close()
    return chains, reported


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_the_order_of_arrival_changes_nothing(tmp_path: Path, order: tuple[int, ...]) -> None:
    rows = [row(1), row(2), row(3, previous="f" * 64), row(5)]
    chains, reported = chains_of(tmp_path / "c.sqlite3", [rows[number] for number in order])
    assert chains == {1: "linked", 2: "linked", 3: "broken", 5: "pending"}
    assert reported == {3}


def test_a_first_manifest_that_names_another_before_it_is_broken(tmp_path: Path) -> None:
    assert chains_of(tmp_path / "c.sqlite3", [row(1, previous="f" * 64)]) == ({1: "broken"}, {1})


def test_two_manifests_with_one_number_are_broken(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "c.sqlite3")
    add(catalogue, row(1), make_receipt=lambda _: b"")
    added, broken = add(catalogue, row(1, name="twin"), make_receipt=lambda _: b"")
    assert added.chain == "broken" and broken == [added]


def test_the_receipt_stands_with_its_row_or_neither_does(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "c.sqlite3")

    def refuse(number: int) -> bytes:
        raise OSError("the key is gone")

    with pytest.raises(OSError, match="the key is gone"):
        add(catalogue, row(1), make_receipt=refuse)
    assert catalogue.find("rec-1", "id-1") is None
    added, _ = add(catalogue, row(1), make_receipt=lambda number: b"%d" % number)
    assert (added.row_id, catalogue.find("rec-1", "id-1")) == (1, added)
    assert added.receipt == b"1"
    with pytest.raises(CatalogueFailed):
        add(catalogue, row(1), make_receipt=lambda _: b"again")
