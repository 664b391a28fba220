"""The chain file: a torn line never counted, a missing one is refused."""

import json
from pathlib import Path

import pytest

from recorderd.core.errors import EvidenceError
from recorderd.record.chain import CHAIN_NAME, Chain, Link
from recorderd.wire.manifest import GENESIS_SHA256


def _link(sequence: int) -> Link:
    return Link(sequence=sequence, manifest_sha256=f"{sequence:064x}", recording_id=f"r{sequence}")


def test_the_first_link_follows_the_genesis_hash(tmp_path: Path) -> None:
    assert Chain(tmp_path).next_link() == (1, GENESIS_SHA256)


def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    for sequence in range(1, 60):
        chain.append(_link(sequence))
    assert Chain(tmp_path).next_link() == (60, f"{59:064x}")


def test_a_line_that_a_power_cut_tore_is_dropped(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.append(_link(1))
    whole = (tmp_path / CHAIN_NAME).read_bytes()
    with (tmp_path / CHAIN_NAME).open("ab") as stream:
        stream.write(b'{"manifest_sha256":"00')
    again = Chain(tmp_path)
    assert again.next_link() == (2, f"{1:064x}")
    assert (tmp_path / CHAIN_NAME).read_bytes() == whole
    again.append(_link(2))
    assert Chain(tmp_path).head == _link(2)


@pytest.mark.parametrize("lost", [slice(1, 2), slice(1, 4), slice(0, 4)], ids=["one", "the last", "all"])
def test_of_a_group_that_a_power_cut_tore_only_what_stands_without_a_hole_counts(
    tmp_path: Path, lost: slice
) -> None:
    chain = Chain(tmp_path)
    for sequence in range(1, 41):  # synced, and published since
        chain.append(_link(sequence))
    path = tmp_path / CHAIN_NAME
    before_bytes = path.stat().st_size
    chain.append_all([_link(sequence) for sequence in range(41, 141)])
    octets, pages = bytearray(path.read_bytes()), range(0, path.stat().st_size, 4096)
    for page in pages[lost]:  # the length is on disk, this page of the group is not
        first, end = max(page, before_bytes), min(page + 4096, len(octets))
        octets[first:end] = bytes(max(0, end - first))
    path.write_bytes(octets)
    again = Chain(tmp_path)
    assert 40 <= again.head.sequence < 140
    sequences = [json.loads(line)["sequence"] for line in path.read_bytes().splitlines()]
    assert sequences == list(range(1, again.head.sequence + 1))
    assert again.named(["r40", "r140"]) == {"r40": f"{40:064x}"}


def test_a_chain_that_ends_in_nothing_but_zeros_does_not_start_anew(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    chain.append(_link(1))
    with (tmp_path / CHAIN_NAME).open("ab") as stream:
        stream.write(bytes(1 << 17))
    with pytest.raises(EvidenceError, match="no line"):
        Chain(tmp_path)


def test_a_chain_torn_in_its_first_line_starts_anew(tmp_path: Path) -> None:
    (tmp_path / CHAIN_NAME).write_bytes(b'{"manifest')
    assert Chain(tmp_path).next_link() == (1, GENESIS_SHA256)


def test_nobody_but_the_recorder_reads_the_chain_also_not_one_of_an_earlier_release(tmp_path: Path) -> None:
    Chain(tmp_path).append(_link(1))
    path = tmp_path / CHAIN_NAME
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o640)
    Chain(tmp_path)
    assert path.stat().st_mode & 0o077 == 0


def test_a_link_out_of_order_is_refused(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    with pytest.raises(EvidenceError, match="does not follow"):
        chain.append(_link(2))


def test_a_line_that_was_tampered_with_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / CHAIN_NAME).write_bytes(b'{"sequence": "many"}\n')
    with pytest.raises(EvidenceError, match="cannot be read"):
        Chain(tmp_path)
