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
class Delivery:
    """A spool, an archive, and what happened on the way between them."""

    nursery: Nursery
    root: Path
    prepare: Callable[[Loopback], None] = lambda _: None  # before the programs begin
    starts: int = 0
    killed: bool = False
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    _running: dict[str, Child] = field(default_factory=dict)

    def run(
        self, program: str, *, fault: Fault | None = None, edge: Edge | None = None, recordings: int = 1
    ) -> None:
        """Deliver; a program that ends is started anew, without the fault."""
        self.loopback = Loopback(self.root)
        for name in self.loopback.record(recordings):
            self.digests[name] = folder_digests(self.loopback.spool.path(Place.READY, name))
        self.prepare(self.loopback)
        for name in (ARCHIVE, FLUSH):
            struck = name == program
            self._start(name, fault if struck else None, edge if struck else None)
        self.starts = 0
        deadline_s = time.monotonic() + LIMIT_S
        while self.loopback.left_in_spool():
            assert time.monotonic() < deadline_s, f"not delivered:\n{self.text()}"
            self._keep_running()
            time.sleep(LOOK_S)
        for child in self._running.values():
            child.signal(signal.SIGTERM)
        for child in self._running.values():
            code = child.wait()
            assert code == 0 or (code == KILLED and self._was(child, program)), f"exit {code}"
            self.killed |= code == KILLED

    def _was(self, child: Child, program: str) -> bool:
        return child is self._running[program] and self.starts == 0

    def _start(self, program: str, fault: Fault | None = None, edge: Edge | None = None) -> Child:
        config = self.loopback.archive_toml if program == ARCHIVE else self.loopback.recorder_toml
        log = self.root / f"{program}.log"
        child = self.nursery.start(program, config, log=log, fault=fault, edge=edge)
        self._running[program] = child
        self.starts += 1
        return child

    def _keep_running(self) -> None:
        for program, child in list(self._running.items()):
            code = child.poll()
            if code is not None:
                self.killed |= code == KILLED
                self._start(program)

    def text(self) -> str:
        """What both programs have said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.root.glob("*.log")))

    def judge(self) -> None:
        """Everything is in the archive once, octet by octet, and nothing is left on the way."""
        archive = self.loopback.data_dir
        rows = Catalogue(archive / CATALOGUE_NAME, read_only=True).all()
        assert sorted(row.id for row in rows) == sorted(self.digests)
        for row in rows:
            assert folder_digests(archive / row.path) == self.digests[row.id]
            assert row.chain == "linked"
        if list((archive / "incoming").glob("*/*")):  # what the disk kept it from, the next start does
            child = self._start(ARCHIVE)
            wait_until(lambda: "ready" in child.text(), what="the archive is ready")
            child.signal(signal.SIGTERM)
            assert child.wait() == 0
        left = [path for name in ("incoming", "rejected") for path in (archive / name).glob("*/*")]
        assert not left, left
        code = self.nursery.start("fsck", self.loopback.archive_toml, log=self.root / "fsck").wait()
        assert code == 0, (self.root / "fsck").read_text()
        text = self.text()
        for word in ("Traceback", "quarantined", "recording_rejected", "chain_broken"):
            assert word not in text, text
        shutil.rmtree(self.root)
