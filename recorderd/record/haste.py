"""When the machine is going dark: what can be sealed in time is, everything else is laid down.

Contract: from ``until_mono_ns`` on no recording is read back to be sealed that would not be done by then; the
shortest come first. One that is laid down is closed, its end and its last streams are in its journal, its
audio is signed for by a last checkpoint, and all of it survives; the next start seals it with the cause of
its end, as ``recovered``, and states how much of it was signed.
Thread: sealing; ``until_mono_ns`` anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.errors import KeyUnusable, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.record.files import RecordingFiles
from recorderd.record.seal import Finished, Sealer

T = TypeVar("T")
Row = tuple[RecordingFiles, Finished]
FIRST_RATE_BYTES_PER_S: Final = 200_000_000  # of reading back, until it was measured; half of what was


class Haste:
    """Chooses, and lays down."""

    def __init__(self, *, sealer: Sealer, clock: Clock, log: EventLog) -> None:
        self.until_mono_ns = 0  # 0 = there is no haste
        self.laid_down = 0
        self._sealer = sealer
        self._clock = clock
        self._log = log
        self._rate_bytes_per_s: float = FIRST_RATE_BYTES_PER_S

    def choose(self, group: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Part recordings into those that can be sealed in time and those that are to be laid down."""
        if not self.until_mono_ns:
            return list(group), []
        left_s = (self.until_mono_ns - self._clock.mono_ns()) / NS_PER_S
        left_bytes, seal, lay_down = left_s * self._rate_bytes_per_s, list[Row](), list[Row]()
        for row in sorted(group, key=lambda row: row[0].sealing_bytes):
            left_bytes -= row[0].sealing_bytes
            (seal if left_bytes >= 0 or not row[0].sealing_bytes else lay_down).append(row)
        return seal, lay_down

    def measured(self, step: Callable[[], T], size_bytes: int) -> T:
        """Read back, and see how fast it goes."""
        began_ns = self._clock.mono_ns()
        result = step()
        took_ns = self._clock.mono_ns() - began_ns
        if took_ns > 0 and size_bytes > FIRST_RATE_BYTES_PER_S // 100:
            self._rate_bytes_per_s = size_bytes * NS_PER_S / took_ns
        return result

    def lay_down(self, group: Sequence[Row]) -> None:
        """Leave recordings to the next start.

        Durable: after return those of which it is told survive.
        """
        if not group:
            return  # the disk is not waited for
        well, owned = [], []
        for files, finished in group:
            try:
                descriptors = files.lay_down(
                    cause=finished.end_cause,
                    recorder_id=self._sealer.recorder_id,
                    at=utc_text(self._clock.utc_ns()),
                    sign=self._signature,
                )
            except (RecorderError, OSError) as problem:
                files.give_up(problem)
                files.leave()
                continue
            well.append((files, finished))
            owned += [(files, descriptor) for descriptor in descriptors]
        unsynced = self._sealer.sync([descriptor for _, descriptor in owned])
        for (files, _), refusal in zip(owned, unsynced, strict=True):
            if refusal is not None:
                files.give_up(refusal)
        for files, finished in well:
            files.leave()
            if files.problem is None:
                self.laid_down += 1
                seconds = finished.duration_samples / finished.sample_rate_hz
                subject = finished.started.session
                self._log.warning(Ev.RECORDING_LAID_DOWN, subject=subject, duration_s=f"{seconds:.3f}")

    def _signature(self, content: bytes) -> bytes:
        """Sign a checkpoint; empty when the key is away."""
        try:
            return self._sealer.sign(content)
        except KeyUnusable as problem:
            self._log.warning(Ev.CHECKPOINT_UNSIGNED, reason=problem)
            return b""
