"""One good chain and a twin per defect, judged by our verifier and an auditor who shares no code with it."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from recorderd.app.verify import Judged, places_of, recording_folders
from recorderd.archive import heads, judgement
from recorderd.archive.lineage import judge_chains
from recorderd.archive.verification import verify_bundle
from recorderd.evidence.verify import TrustStore, verify_detached
from tests.support import auditor
from tests.support.golden import GOLDEN, as_text, write_good
from tests.support.golden_twins import TWINS, write_twin

TRUST = TrustStore.from_files([GOLDEN / "ca.pem"])
_verify_once = functools.lru_cache(maxsize=4096)(verify_detached)  # twins have most signatures in common


@pytest.fixture(autouse=True)
def _each_signature_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (judgement, heads):
        monkeypatch.setattr(module, "verify_detached", _verify_once)


def _ours(folder: Path) -> dict[str, str]:
    """Judge everything below a folder as `recorderctl verify --chain --ca` does; codes with their reasons."""
    judged = [Judged(folder=row, verdict=verify_bundle(row, TRUST)) for row in recording_folders([folder])]
    bodies, breaks = heads.read_heads(sorted(folder.rglob("*.head.json")), TRUST)
    found = [(row.code.value, row.reason) for entry in judged for row in entry.verdict.findings]
    found += [(row.code, row.reason) for row in (*breaks, *judge_chains(places_of(judged), bodies))]
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
    allowed = twin.must | twin.may
    allowed |= {"proof"} if {"digest", "wav"} & allowed else set()  # other audio has another tree
    for who, found in (("ours", ours), ("theirs", theirs)):
        assert twin.must & set(found), f"{who} found {found}, and not {set(twin.must)}"
        assert set(found) <= allowed, f"{who} found {found}"
    told = " / ".join(ours.values())
    assert all(word in told for word in twin.says), told
