"""Situations in which a delivery takes each edge of its two tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from recorderd.archive import intake
from recorderd.archive.store import Key, Store
from recorderd.flush import delivery
from recorderd.flush.parcel import list_files
from recorderd.spool.layout import Place
from recorderd.wire.frames import Offer
from tests.support.bundles import Loopback, audio_of
from tests.support.faults import Edge, Fault
from tests.support.faulty_delivery import ARCHIVE, FLUSH, Arms

TABLES: Final = {FLUSH: delivery, ARCHIVE: intake}
Edges = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What happens anyway; a cut comes on top, to the first start of a program that nothing else ends."""

    kills: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # program -> state, event, how
    faults: dict[str, tuple[str, ...]] = field(default_factory=dict)  # program -> kind, part of the path, how
    prepare: Callable[[Loopback], None] = lambda _: None
    aside: bool = False

    def arms(self, root: Path, *, cut: tuple[str, Edge] | None = None) -> dict[str, list[Arms]]:
        """Say what is done to each start of each program; without a cut the edges are noted."""
        done: dict[str, list[Arms]] = {}
        for program, table in TABLES.items():
            log = str(root.with_name(f"{root.name}.{program}.edges"))
            rows = done[program] = [Arms(edge=Edge(module=table.__name__, log=log))]
            if program in self.kills:
                state, event, how = self.kills[program]
                edge = Edge(module=table.__name__, log=log, state=state, event=event, how=how)
                rows.insert(0, Arms(edge=edge))
            if program in self.faults:
                kind, named, *how = self.faults[program]
                fault = Fault(under=str(root), named=named, kind=kind, at=1, how=how[0] if how else "EIO")
                if how:
                    rows.insert(0, Arms(edge=rows[0].edge))
                rows[0].fault = fault
            if cut is not None and cut[0] == program:
                rows[-1].edge = cut[1]
        return done


def _begun_otherwise(loopback: Loopback) -> None:
    """Leave the beginning of a first file in the archive that is another than what was offered."""
    (name,) = loopback.spool.ids(Place.READY)
    files = list_files(loopback.spool.path(Place.READY, name))
    store = Store(loopback.data_dir)
    store.prepare()
    store.begin(Key("rec-1", name), Offer(recording_id=name, files=files))
    (store.incoming(Key("rec-1", name)) / files[0].name).write_bytes(b"{" * 100)


def _without_manifest(loopback: Loopback) -> None:
    (name,) = loopback.spool.ids(Place.READY)
    (loopback.spool.path(Place.READY, name) / f"{name}.manifest.json").unlink()


def _altered(loopback: Loopback) -> None:
    """Change one sample: the manifest says another digest."""
    (name,) = loopback.spool.ids(Place.READY)
    _flip(audio_of(loopback.spool.path(Place.READY, name)))


def _forged(loopback: Loopback) -> None:
    """Change the signature: every file is what was offered."""
    (name,) = loopback.spool.ids(Place.READY)
    _flip(loopback.spool.path(Place.READY, name) / f"{name}.manifest.json.p7s")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


SCENES: Final[dict[str, Scene]] = {
    "nothing happens": Scene(),
    "the archive cannot begin": Scene(faults={ARCHIVE: ("mkdir", "/incoming/rec-1")}),
    "the archive cannot write": Scene(faults={ARCHIVE: ("create", ".wav")}),
    "the archive cannot publish": Scene(faults={ARCHIVE: ("chmod", "/incoming/rec-1/")}),
    "the receipt cannot be kept": Scene(faults={FLUSH: ("sync", ".receipt.json.new")}),
    "the copy cannot be removed": Scene(faults={FLUSH: ("sync", "/spool/removed")}),
    "the flush ends with a receipt": Scene(kills={FLUSH: ("ARCHIVED", "GraceOver", "before")}),
    "the flush ends while it sends": Scene(kills={FLUSH: ("SENDING", "RoomGiven", "after")}),
    "the archive ends at the offer": Scene(kills={ARCHIVE: ("OFFERED", "PartsFound", "before")}),
    "the archive ends at a chunk": Scene(kills={ARCHIVE: ("RECEIVING", "ChunkArrived", "after")}),
    "the archive ends before it verifies": Scene(kills={ARCHIVE: ("RECEIVING", "AllFilesMatched", "after")}),
    "the archive ends with the row": Scene(kills={ARCHIVE: ("VERIFYING", "BundleArchived", "before")}),
    "the archive ends while it publishes": Scene(faults={ARCHIVE: ("chmod", "/incoming/rec-1/", "before")}),
    "a part is another": Scene(prepare=_begun_otherwise),
    "the manifest is missing": Scene(prepare=_without_manifest, aside=True),
    "it cannot be set aside": Scene(
        prepare=_without_manifest, aside=True, faults={FLUSH: ("sync", "reason.txt")}
    ),
    "the audio was altered": Scene(prepare=_altered, aside=True),
    "a signature was altered": Scene(prepare=_forged, aside=True),
}
# Edges that a kill, a disk that refuses once or a lost link does not bring about; unit tests take them.
UNREACHED: Final[dict[str, set[Edges]]] = {
    FLUSH: {
        *(
            (state, "ReceiptVerified") for state in ("SENDING", "WAITING")
        ),  # a late answer to an earlier offer
        *((state, "Postponed") for state in ("READY", "WAITING")),  # the same
        *((state, "RejectedForGood") for state in ("OFFERED", "WAITING")),  # another holds its id
        ("READY", "ReceiptVerified"),  # only when the flush ends between the receipt and the removal
        ("SENDING", "RejectedForGood"),  # a small one is sent before the answer comes
        ("ARCHIVED", "EffectFailed"),  # receipts are synced with everything else of the spool
        ("AWAITING", "CreditGranted"),  # a power cut takes what the archive had acknowledged
    },
    ARCHIVE: {
        ("VERIFYING", "ChunkArrived"),  # the line gives a chunk twice
        ("VERIFYING", "OfferRepeated"),
    },
}
