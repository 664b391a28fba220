"""One good chain whose manifests are encrypted, and a twin per defect: without a key, with it, by openssl."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.app.verify import Judged, places_of, recording_folders
from recorderd.archive.index_judgement import judge_index
from recorderd.archive.lineage import judge_chains
from recorderd.archive.verdicts import Check, Verdict
from recorderd.archive.verification import read_bundle, verify_bundle
from recorderd.evidence.verify import TrustStore
from tests.support.golden import as_text
from tests.support.golden_sealed import CALLER, FIRST, GOLDEN_SEALED, SECOND, write_good, write_recipient
from tests.support.golden_sealed_twins import TWINS, write_twin
from tests.support.sealed_auditor import audit_sealed

TRUST = TrustStore.from_files([GOLDEN_SEALED / "ca.pem"])


@pytest.fixture(scope="module")
def recipient(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_recipient(tmp_path_factory.mktemp("recipient"))


def _ours(folder: Path) -> dict[str, str]:
    """Judge everything below a folder as `recorderctl verify --chain --ca` does; codes with their reasons."""
    judged = [Judged(folder=row, verdict=verify_bundle(row, TRUST)) for row in recording_folders([folder])]
    found = [(row.code.value, row.reason) for entry in judged for row in entry.verdict.findings]
    found += [(row.code, row.reason) for row in judge_chains(places_of(judged))]
    return {code: " / ".join(reason for known, reason in found if known == code) for code, _ in found}


def _opened(folder: Path, into: Path, recipient: tuple[Path, Path]) -> Path:
    """Let the recipient open with openssl what opens, beside its envelope."""
    shutil.copytree(folder, into)
    for envelope in into.glob("*/*.p7m"):
        subprocess.run(
            [
                *("openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-in", envelope),
                *("-recip", recipient[0], "-inkey", recipient[1], "-out", envelope.with_suffix("")),
            ],
            capture_output=True,
            check=False,
        )
        if not envelope.with_suffix("").stat().st_size:
            envelope.with_suffix("").unlink()
    return into


def _theirs(folder: Path, recipient: tuple[Path, Path]) -> dict[str, list[str]]:
    return audit_sealed(folder, GOLDEN_SEALED / "ca.pem", certificate=recipient[0], key=recipient[1])


def test_the_good_chain_is_good_as_far_as_it_can_be_told(
    tmp_path: Path, recipient: tuple[Path, Path]
) -> None:
    assert set(_ours(GOLDEN_SEALED)) == {"encrypted"}
    assert _ours(_opened(GOLDEN_SEALED, tmp_path / "opened", recipient)) == {}
    assert _theirs(GOLDEN_SEALED, recipient) == {}


def test_nothing_in_it_tells_who_called_but_what_the_recipient_opens(
    tmp_path: Path, recipient: tuple[Path, Path]
) -> None:
    def telling(folder: Path) -> list[str]:
        return sorted(
            path.name
            for path in folder.rglob("*")
            if path.is_file() and CALLER.removeprefix("+").encode() in path.read_bytes()
        )

    assert telling(GOLDEN_SEALED) == []
    opened = telling(_opened(GOLDEN_SEALED, tmp_path / "opened", recipient))
    assert opened == [f"{FIRST}.manifest.json", f"{SECOND}.manifest.json"]


def test_the_script_still_writes_what_stands_here_octet_for_octet(tmp_path: Path) -> None:
    write_good(tmp_path / "good")
    assert as_text(tmp_path / "good") == as_text(GOLDEN_SEALED)


@pytest.mark.parametrize("name", TWINS)
def test_the_defect_of_each_twin_is_found_and_named(
    name: str, tmp_path: Path, recipient: tuple[Path, Path]
) -> None:
    twin = write_twin(name, tmp_path / name)
    found = {
        "ours, with the key": _ours(_opened(tmp_path / name, tmp_path / "opened", recipient)),
        "theirs": _theirs(tmp_path / name, recipient),
    }
    if twin.blind:
        found["ours, without a key"] = _ours(tmp_path / name)
    else:
        assert set(_ours(tmp_path / name)) == {"encrypted"}
    for who, codes in found.items():
        assert twin.must & set(codes), f"{who} found {codes}, and not {set(twin.must)}"


@pytest.mark.parametrize("ending", ["index.json", "index.json.p7s", "manifest.json.p7s"])
def test_every_octet_of_what_stands_in_clear_counts(ending: str) -> None:
    bundle = read_bundle(GOLDEN_SEALED / FIRST)
    name, octets = f"{FIRST}.{ending}", bundle.contents[f"{FIRST}.{ending}"]
    unnoticed = []
    for at in range(len(octets)):
        flipped = octets[:at] + bytes([octets[at] ^ 0x55]) + octets[at + 1 :]
        sha256s = {**bundle.sha256s, name: hashlib.sha256(flipped).hexdigest()}
        other = replace(bundle, contents={**bundle.contents, name: flipped}, sha256s=sha256s)
        if judge_index(other, TRUST).verdict is not Verdict.BAD:
            unnoticed.append(at)
    assert unnoticed == []


def test_without_the_key_it_says_cannot_tell_and_who_can() -> None:
    verdict = verify_bundle(GOLDEN_SEALED / FIRST, TRUST)
    assert verdict.by_check()[Check.ENCRYPTED] is Verdict.UNKNOWN
    assert not verdict.good
    reasons = [finding.reason for finding in verdict.findings]
    assert all("CN=golden recipient" in reason for reason in reasons)
