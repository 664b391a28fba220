"""Small files of a recorder that belong to no single recording: batches of time stamps.

Rule: the first file that came under a name is kept for good, read-only; the same one again gets the same
answer, another one is refused. What a file says is judged by whoever reads it, not here.

    stamps/<recorder>/<utc>.json, <utc>.tsr
"""

from __future__ import annotations

from pathlib import Path

from recorderd import durable
from recorderd.archive.folders import READ_ONLY_MODE
from recorderd.core.errors import StoreBroken
from recorderd.core.ids import is_safe_id
from recorderd.evidence.digest import sha256_bytes
from recorderd.wire.frames import DEPOSIT_NAME, Deposit, Deposited

FOLDER_NAME = "stamps"


def deposits_of(root: Path, recorder_id: str) -> Path:
    """Name the folder of a recorder's deposits.

    Errors: StoreBroken when the id could lead out of the archive.
    """
    if not is_safe_id(recorder_id):
        raise StoreBroken(path=repr(recorder_id), reason="not an id")
    return root / FOLDER_NAME / recorder_id


def keep_deposit(root: Path, recorder_id: str, deposit: Deposit) -> Deposited:
    """Keep a file, or say why not.

    Durable: when the answer is no refusal, the file survives.
    Errors: OSError: nothing was kept, and may be sent again.
    """
    content = bytes(deposit.payload)
    refusal = ""
    if DEPOSIT_NAME.fullmatch(deposit.name) is None or sha256_bytes(content) != deposit.sha256:
        refusal = "is not what it says"
    else:
        path = deposits_of(root, recorder_id) / deposit.name
        if not path.exists():
            durable.make_dir(path.parent)
            durable.replace(path, content, mode=READ_ONLY_MODE)
        elif path.read_bytes() != content:
            refusal = "another file of that name is kept here"
    return Deposited(name=deposit.name, sha256=deposit.sha256, refusal=refusal)
