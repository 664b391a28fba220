"""fsck finds and names what was altered, removed or added in an archive, in its store as in its catalogue."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recorderd.archive.audit import Trouble
from recorderd.archive.catalogue import Entry
from recorderd.archive.intake import BundleRefused
from recorderd.archive.store import Key
from recorderd.archive.verdicts import Verdict
from recorderd.evidence.verify import TrustStore
from tests.support.golden import FIRST, GOLDEN, IDS, RECORDER, SECOND, THIRD
from tests.support.golden_twins import write_twin
from tests.support.vault import Vault

SECOND_PLACE, THIRD_PLACE = (f"chain of {RECORDER} at {number}" for number in (2, 3))


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path)
    made.take_all()
    return made


def _flip(path: Path, at: int = 40) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def _reasons(vault: Vault) -> str:
    return " / ".join(trouble.reason for trouble in vault.audit().troubles)


def test_an_archive_that_nobody_touched_is_good(vault: Vault) -> None:
    audit = vault.audit()
    assert (audit.troubles, audit.verdict) == ([], Verdict.GOOD)
    assert (audit.recordings, audit.heads) == (3, 2)
    assert set(vault.log.counters()) == {"recording_archived", "head_kept"}


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("wav", "digest"),
        ("offer-1.sip", "digest"),
        ("wav.p7s", "signature"),
        ("manifest.json.p7s", "signature"),
    ],
)
def test_a_flipped_octet_in_the_store_is_found_by_the_recording_and_by_the_receipt(
    vault: Vault, ending: str, code: str
) -> None:
    _flip(vault.folder(FIRST) / f"{FIRST}.{ending}")
    assert {(FIRST, code), (FIRST, "receipt")} <= vault.told()
    assert {subject for subject, _ in vault.told()} == {FIRST}


def test_a_certificate_that_was_exchanged_is_found_by_the_receipt_too(vault: Vault) -> None:
    path = vault.folder(FIRST) / f"{FIRST}.signer.pem"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"\n")  # which changes nothing that the verifier needs
    assert vault.told() == {(FIRST, "receipt"), (FIRST, "row")}  # of which the latter told its size


def test_a_recording_that_was_removed_from_the_store_is_named(vault: Vault) -> None:
    shutil.rmtree(vault.folder(SECOND))
    assert vault.told() == {(SECOND, "files")}


def test_a_recording_that_was_removed_with_its_row_is_named_by_the_chain_and_by_the_rows(
    vault: Vault,
) -> None:
    shutil.rmtree(vault.folder(SECOND))
    vault.execute("DELETE FROM recordings WHERE id = ?", SECOND)
    assert vault.told() == {(SECOND_PLACE, "missing"), ("catalogue", "row")}
    assert "row 2 is missing" in _reasons(vault)


def test_the_newest_that_was_removed_with_its_row_is_named_by_a_head(vault: Vault) -> None:
    shutil.rmtree(vault.folder(THIRD))
    vault.execute("DELETE FROM recordings WHERE id = ?", THIRD)
    vault.execute("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'recordings'")
    assert vault.told() == {(THIRD_PLACE, "missing")}
    assert "3 is missing (a signed head states 3)" in _reasons(vault)


def test_heads_that_were_removed_between_others_are_missed(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    write_twin("head-missing", tmp_path / "twin")
    vault.take_all(tmp_path / "twin")
    assert vault.told() == {(THIRD_PLACE, "head")}


@pytest.mark.parametrize(
    ("column", "value"),
    [("caller", "1009"), ("started_at", "2026-01-01T00:00:00.000Z"), ("sequence", 9), ("duration_s", 1.5),
     ("state", "objected"), ("manifest_sha256", "f" * 64)],
)  # fmt: skip
def test_a_row_that_was_altered_is_told_from_the_signed_manifest(
    vault: Vault, column: str, value: object
) -> None:
    vault.execute(f"UPDATE recordings SET {column} = ? WHERE id = ?", value, FIRST)
    assert vault.told() == {(FIRST, "row")}
    assert f"{column} is {value!r} in the catalogue" in _reasons(vault)


def test_a_row_that_points_elsewhere_is_found(vault: Vault) -> None:
    path = vault.folder(THIRD).relative_to(vault.root).as_posix()
    vault.execute("UPDATE recordings SET path = ? WHERE id = ?", path, FIRST)
    assert {(FIRST, "row"), (FIRST, "receipt")} <= vault.told()
    assert f"{FIRST} has no row in the catalogue" in _reasons(vault)


def test_a_receipt_of_another_recording_is_found(vault: Vault) -> None:
    vault.execute(
        "UPDATE recordings SET receipt = (SELECT receipt FROM recordings WHERE id = ?) WHERE id = ?",
        *(THIRD, FIRST),
    )
    assert vault.told() == {(FIRST, "receipt")}


def test_a_receipt_by_a_key_that_is_not_the_archives_cannot_be_told(vault: Vault) -> None:
    vault.receipts = TrustStore([])
    audit = vault.audit()
    assert {trouble.code for trouble in audit.troubles} == {"receipt"}
    assert audit.verdict is Verdict.UNKNOWN


def test_a_recording_that_was_put_into_the_store_is_found(vault: Vault) -> None:
    shutil.copytree(vault.folder(FIRST), vault.folder(FIRST).with_name("copy"))
    assert vault.told() == {("copy", "row")}


def test_a_recorder_that_is_not_configured_any_more_leaves_doubt_not_guilt(vault: Vault) -> None:
    vault.trusts = {}
    audit = vault.audit()
    assert audit.verdict is Verdict.UNKNOWN
    assert {(row.subject, row.code) for row in audit.troubles if row.subject in IDS} == {
        (name, "signer_unknown") for name in IDS
    }


def test_an_exchange_by_the_holder_of_the_key_is_found_by_chain_and_receipt(
    vault: Vault, tmp_path: Path
) -> None:
    write_twin("one-exchanged-by-the-keyholder", tmp_path / "twin")
    target = vault.folder(SECOND)
    shutil.rmtree(target)
    shutil.copytree(tmp_path / "twin" / SECOND, target)
    assert {(SECOND, "receipt"), (SECOND, "row"), (THIRD_PLACE, "altered")} == vault.told()


# --- what comes in ----------------------------------------------------------------------------------


def test_a_head_is_kept_once_however_often_it_comes(vault: Vault) -> None:
    before = vault.audit().heads
    vault.take_heads()
    assert vault.audit().heads == before


def test_a_head_of_a_stranger_or_of_another_recorder_is_not_kept(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    write_twin("head-of-a-stranger", tmp_path / "twin")
    document = next((tmp_path / "twin" / "heads").iterdir()).read_bytes()
    assert "whom nothing configured here vouches for" in vault.custody.keep_head(RECORDER, document)
    assert "Malformed chain head" in vault.custody.keep_head(RECORDER, b"{}")
    vault.trusts["rec-2"] = vault.trusts[RECORDER]
    golden = next((GOLDEN / "heads").iterdir()).read_bytes()
    assert vault.custody.keep_head("rec-2", golden) == "is of rec-1"
    assert vault.audit().heads == 0
    assert vault.log.counters()["head_refused"] == 3


def test_a_head_that_contradicts_what_is_here_is_reported_at_once_and_kept(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.take_all()
    write_twin("longer-than-it-lasted", tmp_path / "twin")  # another chain, signed with the same key
    vault.take_heads(tmp_path / "twin")
    assert vault.log.counters()["chain_broken"] > 0
    assert vault.audit().heads == 4
    assert {"altered", "head"} <= {trouble.code for trouble in vault.audit().troubles}


def test_a_recording_that_contradicts_a_head_is_reported_when_it_comes(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.take_heads()
    write_twin("longer-than-it-lasted", tmp_path / "twin")
    assert isinstance(vault.take(tmp_path / "twin" / FIRST), Entry)
    assert vault.log.counters()["chain_broken"] == 1


def test_what_is_proved_but_odd_is_taken_and_reported_and_what_is_not_proved_is_refused(
    tmp_path: Path,
) -> None:
    vault = Vault(tmp_path)
    for name in ("size-never-written", "gap-that-no-sum-has", "sample-altered", "certificate-exchanged"):
        write_twin(name, tmp_path / name)
    taken = vault.take(tmp_path / "size-never-written" / FIRST)
    assert isinstance(taken, Entry)
    assert vault.log.counters()["recording_odd"] == 1
    assert vault.told() == {(FIRST, "wav"), (FIRST, "proof")}
    other = Vault(tmp_path / "other")
    refused = other.take(tmp_path / "sample-altered" / FIRST)
    assert isinstance(refused, BundleRefused)
    assert (refused.code, refused.retryable) == ("signature", False)


def test_a_trouble_says_bad_unless_it_says_otherwise() -> None:
    assert Trouble(subject="s", code="row", reason="r").verdict is Verdict.BAD


def test_what_is_just_being_taken_in_is_no_fault(vault: Vault) -> None:
    path = vault.folder(FIRST).relative_to(vault.root).as_posix()
    vault.execute("DELETE FROM recordings WHERE id = ?", FIRST)
    assert (FIRST, "row") in vault.told()
    vault.store.announce(Key(RECORDER, FIRST), path)
    assert (FIRST, "row") not in vault.told()


def test_the_first_head_that_contradicts_a_recording_is_reported_when_it_comes(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    assert isinstance(vault.take(GOLDEN / FIRST), Entry)
    write_twin("longer-than-it-lasted", tmp_path / "twin")
    first = min((tmp_path / "twin" / "heads").iterdir())
    assert vault.custody.keep_head(RECORDER, first.read_bytes()) == ""
    assert vault.log.counters()["chain_broken"] == 1
