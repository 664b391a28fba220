"""An upload in memory: its state and its open part; all of it can be made again from disk."""

from __future__ import annotations

from dataclasses import dataclass

from recorderd.archive import intake as i
from recorderd.archive.store import Key, Part, Store
from recorderd.archive.verdicts import BundleVerdict
from recorderd.core.errors import RecorderError


@dataclass(slots=True)
class Upload:
    """One recording on its way in."""

    intake: i.Intake
    peer: bytes  # where the latest message came from
    heard_ns: int
    part: Part | None = None
    verdict: BundleVerdict | None = None  # once it was read
    is_with_keeping: bool = False  # somebody else reads or commits it: it is not to be touched
    credit_due: i.GiveCredit | None = None  # to be told at the end of this turn

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size_bytes for entry in self.intake.files)

    @property
    def is_at_last(self) -> bool:
        """Tell whether the file that comes is the last one, most often the audio."""
        return self.intake.position + 1 == len(self.intake.files)

    def put_down(self) -> None:
        """Let go of the open part; it stays on disk."""
        if self.part is not None:
            self.part.close()
            self.part = None

    def perform(
        self, key: Key, effect: i.Effect, payload: bytes | memoryview, *, store: Store
    ) -> i.Event | None:
        """Do what the reducer asked for on the current part; return what came of it as an event.

        The last file, most often the audio, is hashed when all are read back, the others while they come.
        Errors: OSError when the disk refuses.
        """
        hashed = not self.is_at_last
        match effect:
            case i.OpenPart(name=name):
                self.put_down()
                offset_bytes = self.intake.offset_bytes
                self.part = store.open_part(key, name, offset_bytes=offset_bytes, hashed=hashed)
            case i.RestartPart(name=name):
                self.put_down()
                self.part = store.empty_part(key, name, hashed=hashed)
            case i.WriteChunk() if self.part is not None:
                self.part.write(payload)
            case i.CheckFile(sha256=expected) if self.part is not None and hashed:
                actual = self.part.sha256()
                return i.FileMatched() if actual == expected else i.FileDiffers(sha256=actual)
            case _:
                raise RecorderError(reason=f"{type(effect).__name__} without an open part")
        return None
