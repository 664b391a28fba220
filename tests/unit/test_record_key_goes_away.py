"""The key goes away in the middle of a group seal, an entry and a head waiting: none is lost or doubled."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorderd.core import outcomes
from recorderd.core.errors import KeyUnavailable
from recorderd.core.ids import new_session_id
from recorderd.core.messages import CallDescription, Origin, SessionRefused
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.keys import Signer
from recorderd.evidence.recipients import load_certificate
from recorderd.policy.file_names import NameTemplate
from recorderd.record.chain import CHAIN_NAME
from recorderd.record.disk import Disk
from recorderd.record.entries import Entries
from recorderd.record.heads import Heads
from recorderd.record.recovery import recover
from recorderd.spool.head_box import HeadBox
from recorderd.wire.chain_head import parse_head
from recorderd.wire.manifest import GENESIS_SHA256, manifest_name, parse_manifest
from tests.support.bundles import make_signer
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.studio import BEGIN_MONO_NS, BEGIN_UTC_NS, Studio

CALLS = 6


class Token:
    """A signer whose token may be pulled out after so many signatures."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.left: int | None = None  # None = it stays

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signer, name)

    def _use(self) -> None:
        if self.left == 0:
            raise KeyUnavailable(path="token", reason="no such token is there")
        self.left = None if self.left is None else self.left - 1

    def sign_bytes(self, *arguments: Any, **named: Any) -> bytes:
        self._use()
        return self._signer.sign_bytes(*arguments, **named)

    def sign_digest(self, *arguments: Any, **named: Any) -> bytes:
        self._use()
        return self._signer.sign_digest(*arguments, **named)


def _run_sealing(studio: Studio) -> None:
    stop = threading.Event()
    stop.set()
    studio.disks.sealing.run(stop)


@pytest.mark.parametrize("signatures", range(2 * CALLS + 2))
def test_what_waited_is_sealed_once_when_the_key_is_back(tmp_path: Path, signatures: int) -> None:
    make_recipient(tmp_path, "customer")
    customer = CertificateRecipients(recipients=(load_certificate(tmp_path / "customer.pem"),))
    token: Any = Token(make_signer(tmp_path, "recorder"))
    studio = Studio(tmp_path, token, slots=32, sealing=Disk(), encryption={"bank": customer})
    studio.names = NameTemplate(text="{id}")
    studio.crash()
    entries: Entries = studio.recorder.closing._entries
    chain = studio.sealer._chain
    heads = Heads(
        tmp_path,
        recorder_id="rec-1",
        chain=chain,
        box=HeadBox(tmp_path / "spool"),
        signer=lambda: token,
        clock=studio,
        log=studio.log,
    )
    heads.begin()
    voices = {}
    for number in range(CALLS):
        terms = RecordingTerms(rule="bank", encrypt="bank") if number % 2 else RecordingTerms()
        session = studio.session(f"s{number}", terms=terms)
        voices[f"s{number}"] = studio.voice(session, f"s{number}/a", first_ms=0, packets=50)
        studio.end(session, ms=1000)
    refused = SessionRefused(
        session=new_session_id(BEGIN_UTC_NS),
        description=CallDescription(call_id="r", origin=Origin.SIPREC, caller="1000", callee="2000"),
        terms=RecordingTerms(),
        outcome=outcomes.REFUSED_CAPACITY,
        reason="full",
        at_mono_ns=BEGIN_MONO_NS,
        at_utc_ns=BEGIN_UTC_NS,
    )
    studio.put(refused, ms=1500)
    studio.run(3000)

    token.left = signatures
    _run_sealing(studio)
    heads.state("hour")
    sealed = len(studio.places().get("ready", []))
    waiting = studio.recorder.closing.waiting + len(entries.unsealed)
    assert sealed + waiting == CALLS + 1
    assert (signatures >= 2 * CALLS + 1) == (waiting == 0)

    token.left = None  # as recorderd does when the key is back
    names, entries.unsealed = entries.unsealed, []
    recover(
        spool=studio.spool, chain=chain, sealer=studio.sealer, entries=entries, log=studio.log, only=names
    )
    studio.recorder.closing.seal_waiting()
    heads.state_owed()

    rows = [json.loads(line) for line in (tmp_path / CHAIN_NAME).read_bytes().splitlines()]
    assert sorted(row["recording_id"] for row in rows) == sorted([*voices, refused.session])
    previous = GENESIS_SHA256
    for row in rows:
        folder = studio.folder(row["recording_id"])
        manifest = parse_manifest((folder / manifest_name(row["recording_id"])).read_bytes())
        assert (manifest.sequence, manifest.previous_manifest_sha256) == (row["sequence"], previous)
        assert not manifest.recovered or manifest.outcome == outcomes.REFUSED_CAPACITY
        previous = row["manifest_sha256"]
    (name,) = HeadBox(tmp_path / "spool").waiting()
    assert parse_head(HeadBox(tmp_path / "spool").read(name)).body.sequence == CALLS + 1
    for name, voice in voices.items():
        studio.manifest(name)  # the verifier finds nothing
        if int(name[1:]) % 2:
            folder = studio.folder(name)
            opened = tmp_path / "opened.wav"
            assert openssl_opens(folder / f"{name}.wav.p7m", tmp_path / "customer.pem", out=opened) == b""
            audio = np.frombuffer(opened.read_bytes()[4096:], dtype="<i2")
            assert np.array_equal(audio, voice.samples[: len(audio)]) and len(audio) >= 8000
        else:
            assert np.array_equal(studio.samples(name)[:, 0], voice.samples)
    assert studio.places() == {"ready": sorted([*voices, refused.session])}


@pytest.mark.parametrize("encrypt", ["", "bank"])
def test_what_waits_for_the_key_over_a_restart_is_told_to_have_ended_as_it_did(
    tmp_path: Path, encrypt: str
) -> None:
    make_recipient(tmp_path, "customer")
    customer = CertificateRecipients(recipients=(load_certificate(tmp_path / "customer.pem"),))
    token: Any = Token(make_signer(tmp_path, "recorder"))
    studio = Studio(tmp_path, token, sealing=Disk(), encryption={"bank": customer})
    studio.names = NameTemplate(text="{id}")
    session = studio.session("s", terms=RecordingTerms(encrypt=encrypt))
    studio.voice(session, "s/a", first_ms=0, packets=50)
    studio.end(session, ms=1000)
    studio.run(3000)
    token.left = 0
    _run_sealing(studio)
    assert (studio.recorder.closing.waiting, studio.places().get("ready", [])) == (1, [])
    token.left = None
    studio.crash()
    manifest = studio.manifest("s")
    assert (manifest.recovered, manifest.end_cause) == (True, "bye")
    assert [stream.end_cause for stream in manifest.streams] == ["bye"]
