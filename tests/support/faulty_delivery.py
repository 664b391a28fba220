"""One recording's way from the spool into the archive, with a fault in one of the two programs."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from recorderd.spool.layout import Place
from tests.support.bundles import Loopback, folder_digests
from tests.support.faults import KILLED, Child, Edge, Fault, Nursery
from tests.support.programs import wait_until

FLUSH: Final = "flush"
ARCHIVE: Final = "archive"
LIMIT_S: Final = 90.0
LOOK_S: Final = 0.02


@dataclass
class Arms:
    """What is done to one start of a program."""

    fault: Fault | None = None
    edge: Edge | None = None


@dataclass
class Delivery:
    """A spool, an archive, and what happened on the way between them."""

    nursery: Nursery
    root: Path
    prepare: Callable[[Loopback], None] = lambda _: None  # before the programs begin
    aside: bool = False  # the recording is not to arrive: it is broken
    killed: int = 0
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    _running: dict[str, Child] = field(default_factory=dict)

    def run(self, **arms: list[Arms]) -> None:
        """Deliver one recording; a program that ends is started anew, each time with the next of its arms."""
        self.loopback = Loopback(self.root)
        self._arms = arms
        for name in self.loopback.record(1):
            self.digests[name] = folder_digests(self.loopback.spool.path(Place.READY, name))
        self.prepare(self.loopback)
        for program in (ARCHIVE, FLUSH):
            self._start(program)
        deadline_s = time.monotonic() + LIMIT_S
        while self.loopback.left_in_spool() != ({"quarantine": 1} if self.aside else {}):
            assert time.monotonic() < deadline_s, f"not delivered:\n{self.text()}"
            for program, child in list(self._running.items()):
                if child.poll() is not None:
                    self._ended(child)
                    self._start(program)
            time.sleep(LOOK_S)
        for child in self._running.values():
            child.signal(signal.SIGTERM)
        for child in self._running.values():
            self._ended(child)

    def _ended(self, child: Child) -> None:
        code = child.wait()
        self.killed += code == KILLED
        too_early = code == -signal.SIGTERM and "ready" not in child.text()
        assert code == 0 or child.armed or too_early, f"exit {code}:\n{self.text()}"

    def _start(self, program: str) -> Child:
        config = self.loopback.archive_toml if program == ARCHIVE else self.loopback.recorder_toml
        waiting = self._arms.get(program, [])
        arms = waiting.pop(0) if waiting else Arms()
        log = self.root / f"{program}.log"
        child = self.nursery.start(program, config, log=log, fault=arms.fault, edge=arms.edge)
        self._running[program] = child
        return child

    def text(self) -> str:
        """What both programs have said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.root.glob("*.log")))

    def judge(self) -> None:
        """Everything is in the archive once, octet by octet, and nothing is left on the way."""
        archive = self.loopback.data_dir
        if list((archive / "incoming").glob("*/*")):  # what the disk kept it from, the next start does
            child = self._start(ARCHIVE)
            wait_until(lambda: "ready" in child.text(), what="the archive is ready")
            child.signal(signal.SIGTERM)
            assert child.wait() == 0
        rows = Catalogue(archive / CATALOGUE_NAME, read_only=True).all()
        assert sorted(row.id for row in rows) == ([] if self.aside else sorted(self.digests))
        for row in rows:
            assert folder_digests(archive / row.path) == self.digests[row.id]
            assert row.chain == "linked"
        self._judge_rest(archive)
        code = self.nursery.start("fsck", self.loopback.archive_toml, log=self.root / "fsck").wait()
        assert code == 0, (self.root / "fsck").read_text()
        text = self.text()
        for word in ("Traceback", "chain_broken", *(() if self.aside else ("quarantined", "rejected "))):
            assert word not in text, text
        shutil.rmtree(self.root)

    def _judge_rest(self, archive: Path) -> None:
        left = [path for name in ("incoming", "rejected") for path in (archive / name).glob("*/*")]
        if not self.aside:
            assert not left, left
            return
        (recording_id,) = self.digests
        aside = self.loopback.spool.path(Place.QUARANTINE, recording_id)
        assert (aside / "reason.txt").read_text().strip()
        refused = [path for path in left if path.parts[-3] == "rejected"]
        assert len(refused) <= 1 + self.killed  # it is sent again where the answer was not heard
