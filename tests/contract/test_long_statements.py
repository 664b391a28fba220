"""However long what a recorder states of a call: each database keeps it, with what others sent."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from recorderd.archive.catalogue import Entry
from recorderd.archive.database import Database
from recorderd.evidence.verify import TrustStore
from tests.support.bundles import make_signer
from tests.support.odd_recorder import OddRecorder
from tests.support.retention import AT_ONCE, Archive

KEYS = ("call_id", "extension", "queue", "trunk", "direction")
LONG = "".join(random.Random(1).choices([chr(sign) for sign in range(0x4E00, 0x9FFF)], k=4096))  # the most


@pytest.mark.parametrize("names", [*((name,) for name in (*KEYS, "caller", "callee")), KEYS], ids="+".join)
def test_a_recording_with_the_longest_texts_is_kept_with_its_neighbour(
    tmp_path: Path, catalogue_url: str, names: tuple[str, ...]
) -> None:
    signer, database = make_signer(tmp_path, "recorder"), Database(catalogue_url)
    archive = Archive(tmp_path / "house", AT_ONCE, take=False, database=database)
    archive.trusts["rec-1"] = TrustStore.from_pem(signer.certificate_pem)
    recorder = OddRecorder(tmp_path, signer)
    keys = [recorder.upload(archive), recorder.upload(archive, call=dict.fromkeys(names, LONG))]
    outcomes = archive.custody.take_in_all([(key, archive.custody.verify(key)) for key in keys])
    assert [type(outcome) for outcome in outcomes] == [Entry, Entry]
    for name in names:
        assert LONG.startswith(getattr(archive.entry(keys[1].recording_id), name))
    archive.enrol()
    assert {row.code for row in archive.audit().troubles} == {"doubled"}  # both say that they are the first
    assert archive.erase(keys[1].recording_id)[0].refusal == ""
    database.close()
