"""Trusted time for recordings: a stamp of their own while they wait in ``ready/``, and batches for all.

Rule: a stamp goes into a recording's folder only while that stands in ``ready/``; a claimed recording never
changes, so that offer, digests and receipt are about the same files however often a transfer is taken up.
A recording is claimed once its signatures are stamped, or ``wait`` after it was first seen here, whichever
comes first (``may_claim``). With or without stamps of its own, a manifest's hash is noted on disk before the
claim and is part of the next batch, which is stamped as soon as an authority answers.
While ``has_power`` says no, authorities are not asked and nothing waits for a stamp of its own.
What cannot be stamped delays nothing but itself, and that by ``wait`` at most: authorities are asked in
order, one that fails is left alone for ``retry``, and the disk's errors are logged and tried again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event as StopToken
from typing import Any, Final

from recorderd import durable
from recorderd.core.clock import NS_PER_MS, Clock, utc_text
from recorderd.core.errors import (
    AuthorityRefused,
    EvidenceError,
    IndexFormatError,
    RecorderError,
    StampFormatError,
)
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.merkle import merkle_root
from recorderd.evidence.timestamp import Stamp
from recorderd.flush.authority import Authority, ask_authority, check_apart, fetch_stamp, seconds_apart
from recorderd.flush.parcel import manifest_digest
from recorderd.spool.layout import Place, Spool
from recorderd.spool.stamps import StampFolder
from recorderd.wire.manifest import signature_name
from recorderd.wire.stamp_batch import (
    LEAVES_LIMIT,
    StampBatch,
    encode_batch,
    parse_batch,
    stamp_name,
)

WORKERS: Final = (
    4  # questions under way at a time; an authority 200 ms away then stamps 10 recordings a second
)
SCAN_NS: Final = 250 * NS_PER_MS  # how often ready/ is looked at
NOTE_AT_ONCE: Final = 32  # hashes that are noted between two looks; nobody waits for them
LOOK_NS: Final = 500 * NS_PER_MS  # how often batches are looked at
IDLE_S: Final = 0.25
APART_S: Final = 30  # stamps are whole seconds and take some to come; MiFID's second is for others to watch


@dataclass(frozen=True, slots=True, kw_only=True)
class StampingSettings:
    """Whom to ask, and how long to wait for it."""

    authorities: tuple[Authority, ...]
    wait_ns: int  # 0 = recordings get no stamp of their own
    batch_ns: int
    retry_ns: int
    apart_limit_ns: int  # a stamp whose time is further from ours is not taken


@dataclass(slots=True)
class _Ready:
    """A recording in ``ready/``."""

    seen_ns: int
    noted: bool = False
    busy: bool = False
    stamped: bool = False


class Stamper:
    """Stamps recordings and batches.

    Thread: ``run`` by each of the workers, the rest by any.
    """

    def __init__(
        self,
        *,
        settings: StampingSettings,
        spool: Spool,
        clock: Clock,
        log: EventLog,
        ask: Callable[[Authority, bytes], bytes] = ask_authority,
        has_power: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._clock = clock
        self._log = log
        self._ask = ask
        self._has_power = has_power
        self.folder = StampFolder(spool.root)
        self.folder.prepare(self._leaves)
        self._lock = threading.Lock()
        self._ready: dict[str, _Ready] = {}  # whose turn is first stands first
        self._left_alone_ns: dict[str, int] = {}  # authority -> until when
        self._scan_at_ns = self._look_at_ns = 0
        self._batch_at_ns = clock.mono_ns()  # what an earlier process left is due at once
        if not self.folder.waiting():
            self._batch_at_ns += settings.batch_ns
        self._batching = False
        self._spoilt: set[str] = set()  # batches that the disk did not give back
        self._figures: Counter[str] = Counter()

    def run(self, stop: StopToken) -> None:
        """Do what is to be done until ``stop`` is set."""
        while not stop.is_set():
            try:
                worked = self._turn()
            except (OSError, RecorderError) as problem:
                self._log.error(Ev.INTERNAL_ERROR, subject="stamps", reason=problem)
                worked = False
            if not worked:
                stop.wait(IDLE_S)

    def may_claim(self, recording_id: str) -> bool:
        """Tell whether a recording in ``ready/`` waits no longer for a stamp."""
        now_ns = self._clock.mono_ns()
        with self._lock:
            entry = self._ready.setdefault(recording_id, _Ready(seen_ns=now_ns))
            waited = now_ns - entry.seen_ns >= self._settings.wait_ns
            return entry.stamped or waited or not self._has_power()

    def let_go(self, recording_id: str) -> None:
        """Note a recording's hash for the next batch, as it is about to be claimed.

        Durable: after return the hash survives, unless the disk refused, which is logged.
        """
        with self._lock:
            entry = self._ready.setdefault(recording_id, _Ready(seen_ns=self._clock.mono_ns()))
        if not entry.noted:
            self._note(recording_id, entry)
        if self._settings.wait_ns and not entry.stamped:
            self._figures["unstamped"] += 1
            self._log.warning(Ev.RECORDING_UNSTAMPED, subject=recording_id)

    def status(self) -> dict[str, Any]:
        """Return figures for people: recordings that wait, hashes that wait, what was done."""
        with self._lock:
            waiting = sum(not entry.stamped for entry in self._ready.values())
        return {
            "recordings_waiting": waiting if self._settings.wait_ns else 0,
            "hashes_waiting": len(self.folder.waiting()),
            "batches_unstamped": len(self.folder.unstamped()),
            "batches_unsent": len(self.folder.unsent()),
            "figures": dict(self._figures),
        }

    # --- what is to be done --------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Do one thing; tell whether there was one."""
        now_ns = self._clock.mono_ns()
        with self._lock:
            fresh = self._scan(now_ns) if now_ns >= self._scan_at_ns else []
        for name, entry in fresh:
            self._note(name, entry)
        if len(fresh) == NOTE_AT_ONCE and all(entry.noted for _, entry in fresh):
            self._scan_at_ns = 0  # there are more
            return True
        if not self._has_power():
            return False
        with self._lock:
            usable = self._usable(now_ns)
            recording_id = self._next() if usable and self._settings.wait_ns else ""
            batching = not (recording_id or self._batching) and now_ns >= self._look_at_ns
            if recording_id:
                self._ready[recording_id].busy = True
            if batching:
                self._batching, self._look_at_ns = True, now_ns + LOOK_NS
        if recording_id:
            return self._stamp_recording(recording_id)
        if not batching:
            return False
        try:
            return self._batch(now_ns)
        finally:
            self._batching = False

    def _scan(self, now_ns: int) -> list[tuple[str, _Ready]]:
        """Look at ``ready/``; give some whose hash is to be noted."""
        self._scan_at_ns = now_ns + SCAN_NS
        ids = dict.fromkeys(self._spool.ids(Place.READY))
        known = {name: entry for name, entry in self._ready.items() if name in ids}
        self._ready = known | {name: _Ready(seen_ns=now_ns) for name in ids if name not in known}
        fresh = ((name, entry) for name, entry in self._ready.items() if not entry.noted)
        return list(islice(fresh, NOTE_AT_ONCE))

    def _note(self, recording_id: str, entry: _Ready) -> None:
        folder = self._spool.path(Place.READY, recording_id)
        try:
            self.folder.note(manifest_digest(folder))
        except (FileNotFoundError, IndexFormatError):
            entry.noted = True  # no whole recording: whoever claims it finds that out
        except OSError as problem:
            self._log.error(Ev.INTERNAL_ERROR, subject=recording_id, reason=f"its hash: {problem}")
        else:
            entry.noted = True

    def _next(self) -> str:
        for name, entry in self._ready.items():
            if not (entry.busy or entry.stamped):
                return name
        return ""

    def _usable(self, now_ns: int) -> list[Authority]:
        alone = self._left_alone_ns
        return [entry for entry in self._settings.authorities if now_ns >= alone.get(entry.url, 0)]

    # --- stamps --------------------------------------------------------------------------------------

    def _stamp_recording(self, recording_id: str) -> bool:
        folder = self._spool.path(Place.READY, recording_id)
        whole = False
        try:
            whole = self._stamp_signatures(folder)
        except FileNotFoundError:
            pass  # claimed meanwhile: its time was over
        finally:
            with self._lock:
                entry = self._ready.get(recording_id)
                if entry is not None:
                    entry.busy, entry.stamped = False, whole
                    if not whole and self._usable(self._clock.mono_ns()):  # it is to blame: others go first
                        self._ready[recording_id] = self._ready.pop(recording_id)
        return whole

    def _stamp_signatures(self, folder: Path) -> bool:
        signatures = sorted(folder.glob(f"*{signature_name('')}"))
        for signature in signatures:
            path = folder / stamp_name(signature.name)
            if path.exists():
                continue
            tsr = self._fetch(sha256_bytes(signature.read_bytes()), subject=signature.name)
            if tsr is None:
                return False
            durable.replace(path, tsr)
            self._figures["stamps"] += 1
        if signatures:  # none: claimed meanwhile, or no whole recording
            self._log.info(Ev.TIMESTAMPED, subject=folder.name)
        return bool(signatures)

    def _batch(self, now_ns: int) -> bool:
        waiting = self.folder.waiting()
        if waiting and (now_ns >= self._batch_at_ns or len(waiting) >= LEAVES_LIMIT):
            leaves = waiting[:LEAVES_LIMIT]
            root = merkle_root(bytes.fromhex(leaf) for leaf in leaves).hex()
            name = utc_text(self._clock.utc_ns())[:19].replace("-", "").replace(":", "") + "Z"
            content = encode_batch(StampBatch(leaves=leaves, root_sha256=root))
            batch = self.folder.close(name, content, leaves=leaves)
            self._log.info(Ev.TIMESTAMP_BATCH_CLOSED, subject=batch.name, leaves=len(leaves))
        if now_ns >= self._batch_at_ns:
            self._batch_at_ns = now_ns + self._settings.batch_ns
        for batch in self.folder.unstamped():
            root_sha256 = self._root_of(batch)
            if not root_sha256:
                continue
            tsr = self._fetch(root_sha256, subject=batch.name)
            if tsr is None:
                return False
            self.folder.store(batch, tsr)
            self._figures["batches"] += 1
            self._log.info(Ev.TIMESTAMPED, subject=batch.name)
        return False

    def _root_of(self, batch: Path) -> str:
        """Read what is to be stamped; empty for what is no batch any more, which is told once."""
        try:
            return parse_batch(batch.read_bytes()).root_sha256
        except StampFormatError as problem:
            if batch.name not in self._spoilt:
                self._spoilt.add(batch.name)
                self._log.error(Ev.INTERNAL_ERROR, subject=batch.name, reason=problem)
            return ""

    def _fetch(self, sha256_hex: str, *, subject: str) -> bytes | None:
        """Get a stamp from the first authority that gives a good one; none when all fail."""

        def failed(authority: Authority, problem: RecorderError) -> None:
            self._figures["failures"] += 1
            self._left_alone_ns[authority.url] = self._clock.mono_ns() + self._settings.retry_ns
            self._log.warning(Ev.TIMESTAMP_FAILED, subject=authority.url, reason=problem)

        asked = self._usable(self._clock.mono_ns())
        try:
            tsr, _ = fetch_stamp(
                asked,
                sha256_hex=sha256_hex,
                subject=subject,
                ask=self._ask,
                on_failure=failed,
                judge=self._compare_clocks,
            )
        except (AuthorityRefused, EvidenceError):
            return None
        return tsr

    def _compare_clocks(self, stamp: Stamp) -> None:
        """Say it when the authority's time and ours are apart: one of them is wrong.

        Errors: TimestampInvalid when they are so far apart that the stamp would prove nothing.
        """
        now_utc_ns = self._clock.utc_ns()
        apart_s = seconds_apart(stamp, now_utc_ns=now_utc_ns)
        if apart_s > APART_S:
            self._log.warning(Ev.TIMESTAMP_CLOCKS_APART, subject=stamp.authority, apart_s=round(apart_s, 1))
        check_apart(stamp, now_utc_ns=now_utc_ns, limit_ns=self._settings.apart_limit_ns)

    def _leaves(self, raw: bytes) -> tuple[str, ...]:
        try:
            return parse_batch(raw).leaves
        except StampFormatError as problem:
            self._log.error(Ev.INTERNAL_ERROR, subject="stamps", reason=problem)
            return ()
