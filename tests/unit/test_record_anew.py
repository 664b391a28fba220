"""A draft and a journal of which the disk could not keep something are written anew, and lose nothing."""

from pathlib import Path

import pytest

from tests.support.disk import bad_disk, run_on

DRAFTS = """
import os
from pathlib import Path
import numpy as np
from recorderd.evidence.draft_cipher import DraftKey
from recorderd.record.draft import Draft
from recorderd.record.vault import Vault
class Nobody:
    def encrypt(self, blocks, *, content_bytes):
        yield b""
def write(path, vault, fails_in):
    rows = np.random.default_rng(1).integers(-30000, 30000, (40000, 2)).astype(np.int16)
    draft = Draft(path, sample_rate_hz=8000, channels=1, vault=vault)
    os.environ["DISK_SYNC_FAILS_IN"] = str(fails_in)
    draft.append(rows[:9000, :1])
    draft.checkpoint()
    draft.append(rows[9000:17000, :1])
    draft.check.seen()
    draft.wipe(9500, 12000)
    changed = draft.check.changed_from
    draft.widen(2)
    draft.append(rows[17000:30000])
    draft.sync()
    draft.cut(28000)
    draft.append(rows[30000:])
    draft.checkpoint()
    digest, size_bytes = draft.prove()
    draft.close()
    return digest, size_bytes, draft.check.leaves.root_of_all(), changed
found = []
for fails_in in range(7):  # 0 = never
    vault = Vault(recording_id="r-1", key=DraftKey(Nobody()))
    found.append(write(Path(f"{fails_in}.wav"), None, fails_in))
    found.append(write(Path(f"{fails_in}.draft"), vault, fails_in))
print(len(found), len(set(found)), sorted(name for name in os.listdir(".") if "widening" in name))
"""
JOURNAL = """
import os
from pathlib import Path
from recorderd.record.journal import JOURNAL_NAME, JournalWriter
folder = Path("call")
folder.mkdir()
writer = JournalWriter(folder)
held = os.open(folder / JOURNAL_NAME, os.O_RDONLY)  # its number is given to no other file meanwhile
for number in range(4):
    if number == 2:
        writer.close()
        writer = JournalWriter.go_on(folder)
    writer.format(sample_rate_hz=8000, channels=number, origin_samples=0)
    os.environ["DISK_SYNC_FAILS_IN"] = "1"
    writer.sync()
    writer.sync()
text = (folder / JOURNAL_NAME).read_text()
print(text.count("format"), [text.count(f'"channels":{number},') for number in range(4)], os.listdir(folder))
(folder / JOURNAL_NAME).write_text(text.replace("8000", "9000"))
os.environ["DISK_SYNC_FAILS_IN"] = "1"
try:
    writer.sync()
except OSError as problem:
    print(problem)
print(os.stat(folder / JOURNAL_NAME).st_ino != os.fstat(held).st_ino)
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a disk bad."""
    return bad_disk(tmp_path_factory.mktemp("disk"))


def test_a_sync_that_the_disk_refuses_changes_no_sample_of_a_draft(tmp_path: Path, disk: Path) -> None:
    assert run_on(disk, DRAFTS, folder=tmp_path) == "14 1 []"


def test_a_journal_is_written_anew_unless_the_disk_gives_back_other_lines(tmp_path: Path, disk: Path) -> None:
    assert run_on(disk, JOURNAL, folder=tmp_path).splitlines() == [
        "4 [1, 1, 1, 1] ['journal.jsonl']",
        "[Errno 5] Input/output error",
        "True",
    ]
