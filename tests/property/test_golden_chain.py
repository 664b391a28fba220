"""One good chain and a twin per defect, judged by our verifier and an auditor who shares no code with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.app.verify import Judged, places_of, recording_folders
from recorderd.archive.heads import read_heads
from recorderd.archive.lineage import judge_chains
from recorderd.archive.verification import verify_bundle
from recorderd.evidence.verify import TrustStore
from tests.support import auditor
from tests.support.golden import GOLDEN, as_text, write_good
from tests.support.golden_twins import TWINS, write_twin


def _ours(folder: Path) -> dict[str, str]:
    """Judge everything below a folder as `recorderctl verify --chain --ca` does; codes with their reasons."""
    trust = TrustStore.from_files([GOLDEN / "ca.pem"])
    judged = [Judged(folder=row, verdict=verify_bundle(row, trust)) for row in recording_folders([folder])]
    heads, breaks = read_heads(sorted(folder.rglob("*.head.json")), trust)
    found = [(row.code.value, row.reason) for entry in judged for row in entry.verdict.findings]
    found += [(row.code, row.reason) for row in (*breaks, *judge_chains(places_of(judged), heads))]
    return {code: " / ".join(reason for known, reason in found if known == code) for code, _ in found}


def test_the_good_chain_is_good_to_both() -> None:
    assert _ours(GOLDEN) == {}
    assert auditor.audit(GOLDEN, GOLDEN / "ca.pem") == {}


def test_the_script_still_writes_what_stands_here_octet_for_octet(tmp_path: Path) -> None:
    write_good(tmp_path / "good")
    assert as_text(tmp_path / "good") == as_text(GOLDEN)


@pytest.mark.parametrize("name", TWINS)
def test_the_defect_of_each_twin_is_found_and_named_by_both(name: str, tmp_path: Path) -> None:
    twin = write_twin(name, tmp_path / name)
    ours = _ours(tmp_path / name)
    theirs = auditor.audit(tmp_path / name, GOLDEN / "ca.pem")
    for who, found in (("ours", ours), ("theirs", theirs)):
        assert twin.must & set(found), f"{who} found {found}, and not {set(twin.must)}"
        assert set(found) <= twin.must | twin.may, f"{who} found {found}"
    told = " / ".join(ours.values())
    assert all(word in told for word in twin.says), told
