"""The uploads under way: performs what their machines ask for, decides nothing.

Rule: an upload is its recorder's and nobody else's. One that is read or committed by ``keeping`` is left
alone until that has answered. A chunk or offer that the disk refuses is answered as such and puts its upload
down; no other one notices.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from recorderd.archive import intake as i
from recorderd.archive.along import STEP_BYTES
from recorderd.archive.catalogue import Entry
from recorderd.archive.custody import Custody
from recorderd.archive.keeping import Checked, Keeping, Kept
from recorderd.archive.packing import unpacked
from recorderd.archive.peers import Peers
from recorderd.archive.rows import is_of
from recorderd.archive.store import Key, Store
from recorderd.archive.upload import Upload
from recorderd.archive.willingness import Willingness
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.wire import frames as f

WINDOW_CHUNKS: Final = 16  # of a recording, before version 3
UPLOADS_LIMIT: Final = 128  # of one recorder at a time
IDLE_NS: Final = 120 * NS_PER_S  # an upload that is quiet for so long is put down; its parts stay


class Uploads:
    """What is on its way in.

    Thread: one, the receiver's.
    """

    def __init__(
        self,
        *,
        store: Store,
        custody: Custody,
        keeping: Keeping,
        peers: Peers,
        willingness: Willingness,
        send: Callable[[bytes, f.FlushMessage], None],
        figures: Counter[str],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._store = store
        self._custody = custody
        self._keeping = keeping
        self._peers = peers
        self._willingness = willingness
        self._send = send
        self._figures = figures
        self._clock = clock
        self._log = log
        self._uploads: dict[Key, Upload] = {}
        self._credits_due: set[Key] = set()
        self._sweep_at_ns = 0

    # --- what comes --------------------------------------------------------------------------------------

    def on_message(self, peer: bytes, recorder_id: str, message: f.Offer | f.Chunk) -> None:
        """Take an offer or a chunk."""
        key = Key(recorder_id, message.recording_id)
        try:
            if isinstance(message, f.Offer):
                self._on_offer(peer, key, message)
            else:
                self._on_chunk(peer, key, message)
        except (RecorderError, OSError) as problem:
            self._cannot(peer, key, problem)

    def on_results(self) -> None:
        """Go on with what was read or committed."""
        for result in self._keeping.results():
            upload = self._uploads.get(result.key)
            if upload is None:
                continue
            upload.is_with_keeping = False
            upload.heard_ns = self._clock.mono_ns()
            try:
                if isinstance(result, Checked):
                    self._on_checked(result, upload)
                else:
                    self._on_kept(result, upload)
            except (RecorderError, OSError) as problem:
                self._cannot(upload.peer, result.key, problem)

    def end_turn(self) -> None:
        """Tell how far each upload stands that grew in this turn, and put down those that sleep."""
        for key in self._credits_due:
            upload = self._uploads.get(key)
            if upload is not None and upload.credit_due is not None:
                effect, upload.credit_due = upload.credit_due, None
                self._credit(key, upload.peer, effect)
        self._credits_due.clear()
        now_ns = self._clock.mono_ns()
        if now_ns >= self._sweep_at_ns:
            self._sweep_at_ns = now_ns + NS_PER_S
            for key, upload in list(self._uploads.items()):
                if now_ns - upload.heard_ns > IDLE_NS and not upload.is_with_keeping:
                    self._put_down(key)
                    self._forget_if_archived(key)

    def close(self) -> None:
        """Put every upload down."""
        for key in list(self._uploads):
            self._put_down(key)

    def picture(self) -> list[dict[str, Any]]:
        """List what is under way."""
        return [
            {
                "recorder_id": key.recorder_id,
                "recording_id": key.recording_id,
                "file": upload.intake.current.name,
                "offset_bytes": upload.intake.offset_bytes,
            }
            for key, upload in self._uploads.items()
        ]

    # --- offers and chunks -------------------------------------------------------------------------------

    def _on_offer(self, peer: bytes, key: Key, offer: f.Offer) -> None:
        upload = self._uploads.get(key)
        if upload is not None and upload.intake.files == offer.files:
            upload.peer = peer
            self._apply(key, i.OfferRepeated(), b"")
            return
        if upload is not None and upload.is_with_keeping:
            reason = "another offer for the same recording is just being read"
            self._refuse(peer, key, i.Refuse(code="busy", reason=reason, retryable=True))
            return
        self._put_down(key)
        entry = self._custody.known(key)
        if entry is not None:
            self._offered_again(peer, key, offer, entry)
            return
        if self._willingness.allowance.reason:
            self._hold_off(peer, key)
            return
        if sum(other.recorder_id == key.recorder_id for other in self._uploads) >= UPLOADS_LIMIT:
            reason = f"{UPLOADS_LIMIT} uploads are under way"
            self._refuse(peer, key, i.Refuse(code="busy", reason=reason, retryable=True))
            return
        sizes_bytes, moved = self._store.begin(key, offer)
        if moved is not None:
            self._log.warning(
                Ev.RECORDING_REJECTED, subject=key.recording_id, reason="another offer came", aside=moved.name
            )
        intake = i.Intake(recording_id=key.recording_id, files=offer.files)
        self._uploads[key] = Upload(intake=intake, peer=peer, heard_ns=self._clock.mono_ns())
        self._log.info(
            Ev.OFFERED, subject=key.recording_id, recorder=key.recorder_id, found_bytes=sum(sizes_bytes)
        )
        self._apply(key, i.PartsFound(sizes_bytes=sizes_bytes), b"")

    def _hold_off(self, peer: bytes, key: Key) -> None:
        """Take no new upload now; who knows allowances takes back the offer by itself."""
        allowance = self._willingness.allowance
        if self._peers.has_windows(peer):
            self._send(peer, allowance)
        else:
            self._refuse(peer, key, i.Refuse(code="busy", reason=allowance.reason, retryable=True))

    def _offered_again(self, peer: bytes, key: Key, offer: f.Offer, entry: Entry) -> None:
        if is_of(entry, offer):
            self._figures["offered_again"] += 1
            receipt = self._custody.receipt_of(entry, {row.name: row.sha256 for row in offer.files})
            if receipt:
                self._send(peer, f.ReceiptMessage(recording_id=key.recording_id, receipt=receipt))
                return
            reason = "is erased here, and had other files"
            self._refuse(peer, key, i.Refuse(code="differs", reason=reason, retryable=False))
            return
        reason = f"archived with manifest {entry.manifest_sha256}, offered with {offer.statement.sha256}"
        self._refuse(peer, key, i.Refuse(code="differs", reason=reason, retryable=False))

    def _on_chunk(self, peer: bytes, key: Key, chunk: f.Chunk) -> None:
        upload = self._uploads.get(key)
        if upload is None:
            self._figures["stray_chunks"] += 1  # of an upload that we put down or finished
            return
        upload.peer, upload.heard_ns = peer, self._clock.mono_ns()
        self._figures["bytes"] += len(chunk.payload)
        payload, intact = self._payload(peer, chunk)
        event = i.ChunkArrived(
            name=chunk.name, offset_bytes=chunk.offset_bytes, size_bytes=len(payload), intact=intact
        )
        self._apply(key, event, payload)

    def _payload(self, peer: bytes, chunk: f.Chunk) -> tuple[bytes | memoryview, bool]:
        """Give a chunk's octets, and whether they are what it says.

        Without a digest the link's cipher vouches for what was sent; the file's digest decides.
        """
        if chunk.packing:
            payload = unpacked(chunk.payload, packing=chunk.packing, size_bytes=chunk.size_bytes or 0)
            self._figures["unpacked_bytes"] += len(payload or b"")
            return payload or b"", payload is not None and self._peers.has_windows(peer)
        if chunk.sha256:
            return chunk.payload, hashlib.sha256(chunk.payload).hexdigest() == chunk.sha256
        return chunk.payload, self._peers.has_windows(peer)

    # --- what came back ----------------------------------------------------------------------------------

    def _on_checked(self, checked: Checked, upload: Upload) -> None:
        upload.verdict = checked.verdict
        last = upload.intake.current
        actual = checked.verdict.sha256s.get(last.name)
        if actual is None:
            raise RecorderError(reason=f"{last.name} cannot be read")
        event = i.FileMatched() if actual == last.sha256 else i.FileDiffers(sha256=actual)
        self._apply(checked.key, event, b"")

    def _on_kept(self, kept: Kept, upload: Upload) -> None:
        match kept.outcome:
            case Entry(receipt=receipt):
                self._send(upload.peer, f.ReceiptMessage(recording_id=kept.key.recording_id, receipt=receipt))
                self._apply(kept.key, i.BundleArchived(), b"")
            case i.BundleRefused():
                self._apply(kept.key, kept.outcome, b"")
            case problem:
                raise problem

    # --- effects -----------------------------------------------------------------------------------------

    def _apply(self, key: Key, event: i.Event, payload: bytes | memoryview) -> None:
        upload = self._uploads[key]
        waiting = deque([event])
        while waiting:
            upload.intake, effects = i.step(upload.intake, waiting.popleft())
            for effect in effects:
                follow = self._perform(key, upload, effect, payload)
                if follow is not None:
                    waiting.append(follow)
        if upload.intake.state in (i.State.ARCHIVED, i.State.REJECTED):
            self._put_down(key)

    def _perform(
        self, key: Key, upload: Upload, effect: i.Effect, payload: bytes | memoryview
    ) -> i.Event | None:
        """Do what the reducer asked for; return what came of it as an event."""
        match effect:
            case i.GiveCredit():
                self._note_credit(key, upload, effect)
            case i.NoteMalformed(reason=reason):
                self._log.warning(Ev.MALFORMED_FRAME, subject=key.recording_id, reason=reason)
            case i.CheckFile() if upload.is_at_last:
                self._read_back(key, upload)
            case i.WriteChunk() if upload.is_at_last and upload.intake.current.size_bytes > STEP_BYTES:
                upload.perform(key, effect, payload, store=self._store)
                self._read_along(key, upload)
            case i.Verify() if upload.verdict is not None:
                upload.is_with_keeping = True
                self._keeping.keep(key, upload.verdict)
            case i.Refuse():
                upload.put_down()
                if not effect.retryable:
                    self._store.reject(key, reason=f"{effect.code}: {effect.reason}")
                    self._log.error(
                        Ev.RECORDING_REJECTED,
                        subject=key.recording_id,
                        code=effect.code,
                        reason=effect.reason,
                    )
                self._refuse(upload.peer, key, effect)
            case _:
                if isinstance(effect, i.RestartPart):
                    self._keeping.forget(key)
                return upload.perform(key, effect, payload, store=self._store)
        return None

    def _read_along(self, key: Key, upload: Upload) -> None:
        """Let what stands of a long last file be read back while the rest of it comes."""
        current = upload.intake.current
        path = self._store.incoming(key) / current.name
        held_bytes, file_bytes = upload.intake.offset_bytes, current.size_bytes
        self._keeping.follow(key, path, held_bytes=held_bytes, file_bytes=file_bytes)

    def _read_back(self, key: Key, upload: Upload) -> None:
        """Let all files be read back and judged; a recorder with a window hears that all has come."""
        upload.put_down()
        upload.is_with_keeping = True
        self._keeping.check(key, size_bytes=upload.size_bytes)
        if self._peers.has_windows(upload.peer):
            last = upload.intake.current
            effect = i.GiveCredit(name=last.name, offset_bytes=last.size_bytes, rewind=False)
            self._note_credit(key, upload, effect)

    def _note_credit(self, key: Key, upload: Upload, effect: i.GiveCredit) -> None:
        """Give credit; how far an upload stands is told to a recorder with a window once per turn."""
        if effect.rewind or not self._peers.has_windows(upload.peer):
            upload.credit_due = None
            self._credit(key, upload.peer, effect)
        else:
            upload.credit_due = effect
            self._credits_due.add(key)

    def _credit(self, key: Key, peer: bytes, effect: i.GiveCredit) -> None:
        credit = f.Credit(
            recording_id=key.recording_id,
            name=effect.name,
            offset_bytes=effect.offset_bytes,
            window_chunks=WINDOW_CHUNKS,
            rewind=effect.rewind,
        )
        self._send(peer, credit)

    def _refuse(self, peer: bytes, key: Key, effect: i.Refuse) -> None:
        self._log.warning(
            Ev.OFFER_REFUSED,
            subject=key.recording_id,
            code=effect.code,
            reason=effect.reason,
            retryable=effect.retryable,
        )
        refused = f.Refused(
            recording_id=key.recording_id,
            code=effect.code,
            reason=f.plain_reason(effect.reason),
            retryable=effect.retryable,
        )
        self._send(peer, refused)

    def _cannot(self, peer: bytes, key: Key, problem: Exception) -> None:
        self._put_down(key)
        self._log.error(Ev.INTERNAL_ERROR, subject=key.recording_id, reason=problem)
        reason = f"the archive cannot take it now: {problem}"
        self._refuse(peer, key, i.Refuse(code="storage", reason=reason, retryable=True))

    def _forget_if_archived(self, key: Key) -> None:
        try:
            self._custody.forget_if_archived(key)
        except (RecorderError, OSError) as problem:  # the next start does
            self._log.warning(Ev.INTERNAL_ERROR, subject=key.recording_id, reason=problem)

    def _put_down(self, key: Key) -> None:
        upload = self._uploads.pop(key, None)
        if upload is not None:
            upload.put_down()
            self._keeping.forget(key)
