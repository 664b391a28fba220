"""The chain through the whole house: entries without audio, signed heads, the archive's check of itself."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from recorderd.archive.catalogue import Catalogue
from recorderd.core.clock import utc_text
from recorderd.evidence.keys import Signer
from recorderd.spool.head_box import HeadBox
from recorderd.wire import frames as f
from recorderd.wire.chain_head import (
    HeadBody,
    SignedHead,
    encode_head,
    encode_head_body,
    fingerprint,
    head_name,
    parse_head,
)
from recorderd.wire.manifest import GENESIS_SHA256
from tests.support.bundles import STARTED_UTC_NS, Loopback
from tests.support.house import House, run_program
from tests.support.link import RawClient, events
from tests.support.programs import Programs, wait_until
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, sdp_offer

RULES = """
[[rules]]
name = "board"
mode = "never"
extensions = ["9001"]
[[rules]]
name = "office"
mode = "always"
extensions = ["2002"]
"""


def _record(client: SipClient) -> None:
    headers = {"X-Call-ID": "kept", "X-Call-Leg": "caller", "X-Call-Extension": "2002"}
    call = Call(client=client, headers=headers)
    assert call.invite(sdp_offer(client.address, [("", "PCMA")]), "application/sdp").code == 200
    send_streams([RtpStream(port=line.port, payload_type=8, payload=bytes(160 * 25)) for line in call.lines])
    call.bye()


def _refused(client: SipClient, extension: str, *, offer: bytes = b"") -> int:
    headers = {"X-Call-ID": f"to-{extension}", "X-Call-Leg": "caller", "X-Call-Extension": extension}
    call = Call(client=client, headers=headers)
    code: int = call.invite(offer or sdp_offer(client.address, [("", "PCMA")]), "application/sdp").code
    return code


def _heads(data_dir: Path) -> list[HeadBody]:
    path = data_dir / "catalogue.sqlite3"
    if not path.exists():
        return []
    return [parse_head(document).body for _, document in Catalogue(path, read_only=True).heads()]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that recorded a call, refused two of known rules and two that are nobody's, and has stopped."""
    with House(tmp_path_factory.mktemp("chain"), extra=RULES) as house:
        _, recorder, _ = house.all()
        with SipClient(server=house.server) as client:
            assert _refused(client, "9001") == 603
            _record(client)
            dtls = sdp_offer(client.address, [("", "PCMA")]).replace(b"RTP/AVP", b"UDP/TLS/RTP/SAVP")
            assert _refused(client, "2002", offer=dtls) == 488
            assert _refused(client, "7777") == 603  # no rule speaks of it
            assert _refused(client, "2002", offer=b"v=0\r\nno SDP at all") == 400
        house.wait_archived(3)
        running = run_program("recorderctl", "chain", "--config", house.recorder_toml, "--json")
        chain = json.loads(running.stdout)
        assert (chain["sequence"], house.status()["recorder"]["chain"]["sequence"]) == (3, 3)
        assert "chain" in run_program("recorderctl", "status", "--config", house.recorder_toml).stdout
        recorder.stop()
        wait_until(lambda: len(_heads(house.folder / "archive")) >= 2, what="the stop's head is archived")
        box = HeadBox(house.folder / "spool")
        wait_until(lambda: not box.waiting(), what="the archive's answers have come")
        yield house


@pytest.fixture(scope="module")
def listed(told: House) -> list[dict[str, Any]]:
    """What the archive lists, oldest entry of the chain first."""
    return sorted(told.listed(), key=lambda row: int(row["sequence"]))


def test_refused_and_unwanted_calls_have_their_place_beside_the_recordings(
    listed: list[dict[str, Any]],
) -> None:
    rows = {row["sequence"]: row for row in listed}
    assert rows[1]["state"] == "not_wanted"
    assert {rows[2]["state"], rows[3]["state"]} == {"archived", "refused_media"}
    assert all(row["chain"] == "linked" for row in rows.values())


def test_a_head_is_stated_at_start_and_stop_and_counts_what_has_no_entry(told: House) -> None:
    start, stop = _heads(told.folder / "archive")
    assert (start.cause, start.sequence, start.manifest_sha256) == ("start", 0, GENESIS_SHA256)
    assert (stop.cause, stop.sequence, stop.count) == ("stop", 3, 3)
    assert {row.reason: row.calls for row in stop.counted} == {"no_rule": 1, "sip_400": 1}


def test_the_fingerprint_is_told_alike_by_recorder_and_archive(
    told: House, listed: list[dict[str, Any]]
) -> None:
    wanted = fingerprint(listed[-1]["manifest_sha256"])
    recorder = run_program("recorderctl", "chain", "--config", told.recorder_toml).stdout
    assert recorder.startswith(f"3   {wanted}   (head 2 of ")
    archive = run_program("archive", "heads", "--config", told.archive_toml).stdout
    assert archive.splitlines()[-1].endswith(wanted)


def test_what_is_exported_verifies_with_the_heads_and_shows_what_was_kept_back(
    told: House, listed: list[dict[str, Any]], tmp_path: Path
) -> None:
    for row in listed:
        into = tmp_path / "all" / row["id"]
        into.mkdir(parents=True)
        run_program("archive", "export", "--config", told.archive_toml, row["id"], "--out", into)
    run_program("archive", "heads", "--config", told.archive_toml, "--out", tmp_path / "all" / "heads")
    command = ("recorderctl", "verify", tmp_path / "all", "--chain")
    certificate = ("--ca", told.folder / "keys" / "signing-cert.pem")
    whole = run_program(*command, *certificate)
    assert "verified    chain of recorder-1: 3 entries" in whole.stdout
    shutil.rmtree(tmp_path / "all" / listed[-1]["id"])
    kept_back = run_program(*command, *certificate, check=False)
    assert kept_back.returncode == 65
    assert "missing: 3 is missing (a signed head states 3)" in kept_back.stdout


def test_fsck_is_good_until_somebody_touches_the_store(
    told: House, listed: list[dict[str, Any]], tmp_path: Path
) -> None:
    good = run_program("archive", "fsck", "--config", told.archive_toml)
    assert good.stdout == "verified    3 recordings and 2 heads were looked at, 0 findings\n"
    copy = tmp_path / "copy"
    shutil.copytree(told.folder, copy, ignore=shutil.ignore_patterns("run", "*.sock"))
    row = next(row for row in listed if row["state"] == "archived")
    (wav,) = (copy / "archive" / row["path"]).glob("*.wav")
    content = bytearray(wav.read_bytes())
    content[5000] ^= 1
    wav.chmod(0o600)
    wav.write_bytes(content)
    bad = run_program("archive", "fsck", "--config", copy / "archive.toml", "--json", check=False)
    assert bad.returncode == 65
    report = json.loads(bad.stdout)
    assert {trouble["subject"] for trouble in report["troubles"]} == {row["id"]}
    assert {trouble["code"] for trouble in report["troubles"]} == {"digest", "proof", "signature", "receipt"}


# --- heads on the link ------------------------------------------------------------------------------


def _head(signer: Signer, *, recorder_id: str = "rec-1", number: int = 1, sequence: int = 1) -> bytes:
    body = HeadBody(
        recorder_id=recorder_id,
        number=number,
        previous_head_sha256=GENESIS_SHA256,
        sequence=sequence,
        manifest_sha256=f"{sequence:064x}",
        count=sequence,
        cause="hour",
        stated_at=utc_text(STARTED_UTC_NS),
    )
    signature = signer.sign_bytes(encode_head_body(body), signing_time_utc_s=int(time.time()))
    return encode_head(SignedHead(body=body, signature=signature))


@pytest.fixture
def loopback(tmp_path: Path) -> Loopback:
    return Loopback(tmp_path / "set-up")


def test_a_head_on_the_link_is_answered_alike_however_often_it_comes(
    loopback: Loopback, programs: Programs
) -> None:
    programs.archive(loopback.archive_toml)
    client = RawClient(loopback)
    good = _head(loopback.recorder_signer)
    for _ in range(3):
        client.send(f.HeadOffer(document=good))
        assert client.receive() == f.HeadAnswer(sha256=sha256(good).hexdigest(), kept=True)
    wrong = [
        (_head(loopback.stranger_signer), "whom nothing configured here vouches for"),
        (_head(loopback.recorder_signer, recorder_id="rec-2"), "is of rec-2"),
        (good.replace(b'"count":1', b'"count":2'), "not what was signed"),
        (b"", "Malformed chain head"),
    ]
    for document, reason in wrong:
        client.send(f.HeadOffer(document=document))
        answer = client.receive()
        assert isinstance(answer, f.HeadAnswer) and not answer.kept
        assert answer.sha256 == sha256(document).hexdigest()
        assert reason in answer.reason
    client.close()
    assert [body.number for body in _heads(loopback.data_dir)] == [1]
    assert events(loopback, "archive")["head_refused"] == len(wrong)


def test_a_recorder_of_the_first_protocol_is_still_welcome(loopback: Loopback, programs: Programs) -> None:
    programs.archive(loopback.archive_toml)
    client = RawClient(loopback)
    for protocol in (1, 2, 3):
        client.send(f.Hello(recorder_id="rec-1", protocol=protocol))
        assert client.receive() == f.Welcome(archive_id="arc-1", protocol=protocol)
    client.send(f.Hello(recorder_id="rec-1", protocol=4))
    answer = client.receive()
    assert isinstance(answer, f.Unwelcome) and answer.reason == "protocol 4 is none of 1, 2, 3"
    client.close()


def test_heads_wait_for_the_archive_and_one_that_it_refuses_is_not_lost(
    loopback: Loopback, programs: Programs
) -> None:
    box = HeadBox(loopback.root / "spool")
    box.prepare()
    good, bad = _head(loopback.recorder_signer), _head(loopback.stranger_signer, number=2)
    box.put(head_name("rec-1", 1), good)
    box.put(head_name("rec-1", 2), bad)
    flush = programs.flush(loopback.recorder_toml)
    loopback.record(2)
    programs.archive(loopback.archive_toml)
    flush.wait_for("head_kept", head_name("rec-1", 1))
    flush.wait_for("head_refused", head_name("rec-1", 2))
    wait_until(lambda: not loopback.left_in_spool(), what="the recordings go on meanwhile")
    assert box.waiting() == [head_name("rec-1", 2)]
    assert box.read(head_name("rec-1", 2)) == bad
    assert [body.number for body in _heads(loopback.data_dir)] == [1]
