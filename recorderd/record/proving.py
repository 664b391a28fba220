"""The running proof: what has been synced of the calls that go on is signed, every ``evidence.checkpoint_s``.

Contract: ``take`` comes right after a sync, on the disk's thread, so that no checkpoint tells of audio that a
power cut could still take. The sealing thread signs; the disk's thread then appends the line to the journal,
and the next sync makes it last. Leaves that were changed meanwhile (a late pause, a channel more) make the
signed line void: the next checkpoint tells of what stands then, and why. Without a key there is no
checkpoint, and nothing waits for one.
Recovery: a draft proves as much as its last signed checkpoint covers; see ``proof_check``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.errors import KeyUnusable
from recorderd.core.events import Ev, EventLog
from recorderd.record.disk import Disks
from recorderd.record.files import RecordingFiles
from recorderd.record.proved import CheckpointRow
from recorderd.record.seal import Sealer

Row = tuple[RecordingFiles, CheckpointRow]
SIGNED_TOGETHER: Final = 32  # what is to be sealed waits for no more signatures than these


class RunningProof:
    """Makes checkpoints for all recordings.

    Thread: ``due`` the recording's, ``take`` the disk's.
    """

    def __init__(self, *, every_s: int, disks: Disks, sealer: Sealer, clock: Clock, log: EventLog) -> None:
        """Begin; with ``every_s`` 0 nothing is ever due."""
        self._every_ns = every_s * NS_PER_S
        self._disks = disks
        self._sealer = sealer
        self._clock = clock
        self._log = log

    def due(self, group: Sequence[RecordingFiles], *, now_ns: int) -> list[RecordingFiles]:
        """Choose the recordings that are to be signed for now.  # thread: the recording's"""
        if not self._every_ns:
            return []
        chosen = []
        for files in group:
            if not files.is_open:
                continue
            if files.proof_due_ns and now_ns >= files.proof_due_ns:
                chosen.append(files)
            if not files.proof_due_ns or now_ns >= files.proof_due_ns:
                files.proof_due_ns = now_ns + self._every_ns
        return chosen

    def take(self, group: Sequence[RecordingFiles]) -> None:
        """Take what was just synced of recordings.  # thread: the disk's"""
        at, recorder_id = utc_text(self._clock.utc_ns()), self._sealer.recorder_id
        found = ((files, files.take_checkpoint(recorder_id=recorder_id, at=at)) for files in group)
        rows = [(files, row) for files, row in found if row is not None]
        for first in range(0, len(rows), SIGNED_TOGETHER):
            self._disks.sealing.put(partial(self._sign, rows[first : first + SIGNED_TOGETHER]))

    def _sign(self, rows: Sequence[Row]) -> None:
        """Sign, or let be.  # thread: the sealing"""
        signed = []
        for files, row in rows:
            try:
                signed.append((files, replace(row, signature=self._sealer.sign(row.content))))
            except KeyUnusable as problem:
                self._log.warning(Ev.CHECKPOINT_UNSIGNED, subject=files.folder.name, reason=problem)
                signed.append((files, row))
        self._disks.audio.put(partial(_keep, signed))


def _keep(rows: Sequence[Row]) -> None:
    for files, row in rows:
        files.keep_checkpoint(row)
