"""The chain file: a torn line never counted, a missing one is refused."""

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
