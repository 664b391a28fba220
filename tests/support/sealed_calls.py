"""Calls of a class whose metadata is encrypted, in a studio, and whether octets tell who spoke in them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from recorderd.archive.verdicts import BundleVerdict
from recorderd.archive.verification import verify_bundle
from recorderd.core.messages import CallDescription, ControlAction, Origin, Participant, RecordingState
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.record.draft_keys import DraftKeys
from recorderd.record.entries import Entries
from recorderd.record.recorder import Recorder
from tests.support.studio import Studio

CALLER, CALLEE, NAME, CALL_ID, PARTY = "+442079460101", "70077007", "Zoe Quill", "xc-9f31-call", "party-77x"
TERMS = RecordingTerms(
    rule="bank", encrypt="bank", encrypt_metadata=True, mode=Mode.ALWAYS_PAUSABLE, priority=3,
    retention_class="seven-years",
)  # fmt: skip
CALL = CallDescription(
    call_id=CALL_ID, origin=Origin.SIPREC, caller=CALLER, callee=CALLEE, direction="inbound",
    participants=(Participant(participant_id=PARTY, aor=f"sip:{CALLER}@x.com", name=NAME, number=CALLER),),
)  # fmt: skip
WORDS = (CALLER, CALLER[1:], CALLEE, NAME, CALL_ID, PARTY)


def sealed_studio(root: Path, signer: Signer, recipients: object, **terms: object) -> Studio:
    """Begin a call of the class, with an offer and a pause; ``terms`` are other than its."""
    root.mkdir()
    studio = Studio(root, signer, encryption={"bank": recipients})  # type: ignore[dict-item]
    session = studio.session("s", terms=replace(TERMS, **terms), description=CALL)  # type: ignore[arg-type]
    fields = {"label": f"label-{CALLEE}", "party": PARTY, "participant_ids": (PARTY,)}
    studio.voice(session, "s/1", first_ms=0, packets=200, **fields)
    studio.offer(session, f"INVITE sip:{CALLEE}@example.com SIP/2.0\r\nFrom: <sip:{CALLER}@x>\r\n\r\n", ms=10)
    studio.change(session, RecordingState.PAUSED, ms=700, by=CALLEE)
    studio.change(session, RecordingState.ON, ms=900, action=ControlAction.RESUME, by=CALLEE)
    return studio


def with_draft_keys(studio: Studio, descriptor: int) -> Recorder:
    """Make a recorder for a studio that leaves the keys of its drafts to the one that follows."""
    entries = Entries(
        sealer=studio.sealer,
        spool=studio.spool,
        disk=studio.disks.sealing,
        policy=studio.policy,
        clock=studio,
        log=studio.log,
    )
    return Recorder(
        source=studio.tap,
        disks=studio.disks,
        spool=studio.spool,
        sealer=studio.sealer,
        entries=entries,
        pace=studio.pace,
        clock=studio,
        log=studio.log,
        on_silent=studio.silent.append,
        encryption=studio.encryption,
        draft_keys=DraftKeys(descriptor),
    )


def told(content: bytes) -> list[str]:
    """Find words that tell who spoke: as they are, and as encodings write them."""
    return [
        word
        for word in WORDS
        if word.encode() in content
        or word.encode("utf-16-le") in content
        or base64.b64encode(word.encode())[:8] in content
    ]


def held(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Give every file below a folder with its content."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def verdict_on(folder: Path) -> BundleVerdict:
    """Judge a recording by the certificate beside it."""
    return verify_bundle(folder, TrustStore.from_files(list(folder.glob("*.signer.pem"))))
