"""An auditor of his own: JSON by the standard library, WAV by its octets, CMS by the openssl program.

Rule: nothing of recorderd is imported here. He reads only what was published, and says of it, in the same
words as our own verifier, what is wrong: files, manifest, digest, signature, certificate, signer_unknown,
wav, proof, gaps, clock, and of the chain: missing, beginning, doubled, replayed, reordered, altered, head.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import re
import struct
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CAUSES = {
    *("network_loss", "late", "silence_suppressed", "hold", "paused", "stopped", "doubled", "masked"),
    *(
        "before_first",
        "after_last",
        "recorder_restart",
        "kernel_drop",
        "ring_overrun",
        "not_received",
        "disk_full",
    ),
    *("dtmf", "skew"),
}
NOTHING = "0" * 64


def audit(folder: Path, ca: Path) -> dict[str, list[str]]:
    """Audit every recording and head below a folder; codes with their reasons."""
    found: dict[str, list[str]] = {}
    places = []
    for manifest in sorted(folder.rglob("*.manifest.json")):
        place = _recording(manifest.parent, manifest, ca.read_bytes(), found)
        if place is not None:
            places.append(place)
    heads = _heads(sorted(folder.rglob("*.head.json")), ca.read_bytes(), found)
    _chain(places, heads, found)
    return found


def _say(found: dict[str, list[str]], code: str, reason: str) -> None:
    found.setdefault(code, []).append(reason)


# --- one recording ----------------------------------------------------------------------------------


def _recording(
    folder: Path, manifest_path: Path, ca_pem: bytes, found: dict[str, list[str]]
) -> dict[str, Any] | None:
    recording_id = manifest_path.name.removesuffix(".manifest.json")
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    raw = content[manifest_path.name]
    signed = _signature(content, manifest_path.name, ca_pem, found)
    try:
        manifest = json.loads(raw)
        if _canonical(manifest) != raw or manifest["recording_id"] != recording_id:
            raise ValueError("not canonical, or of another")
    except (ValueError, KeyError, TypeError) as problem:
        _say(found, "manifest", f"{recording_id}: {problem}")
        return None
    wanted = {manifest_path.name, f"{manifest_path.name}.p7s", f"{recording_id}.signer.pem"}
    for entry in manifest["files"]:
        if manifest.get("metadata_encrypted"):  # he has opened it
            name = entry["name"].removesuffix(".p7m")
            entry |= {"name": name, "sha256": entry["content_sha256"], "size_bytes": entry["content_bytes"]}
        wanted.add(entry["name"])
        if entry["role"] == "audio":
            wanted.add(f"{entry['name']}.p7s")
    if manifest["outcome"] == "recorded" and not any(row["role"] == "audio" for row in manifest["files"]):
        _say(found, "manifest", f"{recording_id}: recorded, and no audio")
    for name in wanted ^ set(content):
        _say(found, "files", f"{name} is {'missing' if name in wanted else 'not in the manifest'}")
    for entry in manifest["files"]:
        octets = content.get(entry["name"])
        if octets is None:
            continue
        if len(octets) != entry["size_bytes"] or hashlib.sha256(octets).hexdigest() != entry["sha256"]:
            _say(found, "digest", entry["name"])
        if entry["role"] == "audio":
            _signature(content, entry["name"], ca_pem, found)
            for problem in _wav(octets, manifest):
                _say(found, "wav", f"{entry['name']}: {problem}")
            if _tree(octets, manifest) != manifest["proof"]["root_sha256"]:
                _say(found, "proof", f"{entry['name']}: another tree than the manifest's")
    for problem in _gaps(manifest):
        _say(found, "gaps", f"{recording_id}: {problem}")
    ended = datetime.fromisoformat(manifest["ended_at"])
    if signed is not None and (ended - signed).total_seconds() > 2:
        _say(found, "clock", f"{recording_id} was signed before it ended")
    return {
        "recorder": manifest["recorder_id"],
        "id": recording_id,
        "sequence": manifest["sequence"],
        "previous": manifest["previous_manifest_sha256"],
        "digest": hashlib.sha256(raw).hexdigest(),
        "signed": signed,
    }


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _wav(octets: bytes, manifest: dict[str, Any]) -> list[str]:
    """Walk through the chunks of a RIFF file and compare."""
    problems = []
    if octets[:4] != b"RIFF" or octets[8:12] != b"WAVE":
        return ["is no WAV"]
    if struct.unpack("<I", octets[4:8])[0] != len(octets) - 8:
        problems.append("the RIFF size is not the file's")
    at, form, data = 12, b"", -1
    while at + 8 <= len(octets):
        kind, size = octets[at : at + 4], struct.unpack("<I", octets[at + 4 : at + 8])[0]
        if kind == b"fmt ":
            form = octets[at + 8 : at + 8 + size]
        if kind == b"data":
            data = size
            if at + 8 + size != len(octets):
                problems.append("the data do not end with the file")
            break
        at += 8 + size + size % 2
    if len(form) < 16 or data < 0:
        return [*problems, "fmt or data is missing"]
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack("<HHIIHH", form[:16])
    if (tag, bits) not in ([(1, 16)] if manifest["audio_format"] == "pcm16" else [(6, 8), (7, 8)]):
        problems.append("another coding than the manifest's")
    told = (manifest["channels"], manifest["sample_rate_hz"], channels * bits // 8)
    if (channels, rate_hz, frame_bytes) != told:
        problems.append("another format than the manifest's")
    if data != manifest["duration_samples"] * manifest["channels"] * bits // 8:
        problems.append("another length than the manifest's")
    return problems


def _tree(octets: bytes, manifest: dict[str, Any]) -> str:
    """Find the root over the seconds of the data chunk as RFC 9162 defines it (section 2.1.1)."""
    data = octets[octets.find(b"data") + 8 :]
    second = manifest["proof"]["leaf_samples"] * manifest["channels"]
    second *= 2 if manifest["audio_format"] == "pcm16" else 1
    return _root([data[at : at + second] for at in range(0, len(data), second)]).hex()


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _root(leaves[:half]) + _root(leaves[half:])).digest()


def _gaps(manifest: dict[str, Any]) -> list[str]:
    problems, length = [], manifest["duration_samples"]
    for stream in manifest["streams"]:
        covered, end = [False] * length, 0
        for gap in stream["gaps"]:
            if gap["cause"] not in CAUSES:
                problems.append(f"{gap['cause']} is no cause")
            if gap["start_samples"] < end:
                problems.append("gaps overlap")
            end = gap["start_samples"] + gap["length_samples"]
            if end > length:
                problems.append("a gap reaches beyond the end")
            covered[gap["start_samples"] : end] = [True] * gap["length_samples"]
        silent = length if stream["first_sample"] < 0 or not stream["packets_received"] else None
        first = stream["first_sample"] if silent is None else silent
        if not all(covered[: max(0, first)]):
            problems.append("samples without packets are in no gap")
    wall = datetime.fromisoformat(manifest["ended_at"]) - datetime.fromisoformat(manifest["started_at"])
    if abs(wall.total_seconds() - length / manifest["sample_rate_hz"]) > 0.0015:
        problems.append("the times are not as far apart as the samples last")
    return problems


# --- signatures, by openssl -------------------------------------------------------------------------


def _signature(
    content: dict[str, bytes], name: str, ca_pem: bytes, found: dict[str, list[str]]
) -> datetime | None:
    signature = content.get(f"{name}.p7s")
    if signature is None:
        return None
    code, signed, fingerprint = _judge(signature, content[name], ca_pem)
    if code:
        _say(found, code, name)
    pem = next((octets for key, octets in content.items() if key.endswith(".signer.pem")), None)
    if pem is not None and fingerprint and _fingerprint(pem) != fingerprint:
        _say(found, "certificate", f"{name} was not signed with the certificate beside it")
    return signed


@functools.lru_cache(maxsize=4096)
def _judge(signature: bytes, content: bytes, ca_pem: bytes) -> tuple[str, datetime | None, str]:
    """Say what is wrong with a signature, if anything, when it was made, and by whose certificate."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, octets in (("s", signature), ("c", content), ("ca", ca_pem)):
            (folder / file).write_bytes(octets)
        printed = _openssl(folder, "cms -cmsout -print -inform DER -in s")
        time = re.search(rb"signingTime.*?UTCTIME:(.*?) GMT", printed or b"", re.DOTALL)
        certificates = _openssl(folder, "pkcs7 -inform DER -in s -print_certs")
        if time is None or not certificates:
            return "signature", None, ""
        signed = datetime.strptime(time[1].decode(), "%b %d %H:%M:%S %Y").replace(tzinfo=UTC)
        verify = "cms -verify -binary -inform DER -in s -content c -purpose any -out /dev/null"
        if _openssl(folder, f"{verify} -noverify") is None:
            return "signature", None, ""
        (folder / "leaf").write_bytes(certificates)
        dates = _openssl(folder, "x509 -in leaf -noout -startdate -enddate") or b""
        begin, end = (
            datetime.strptime(row.partition("=")[2], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
            for row in dates.decode().split("\n")[:2]
        )
        fingerprint = _fingerprint(certificates)
        if not begin <= signed <= end:
            return "certificate", signed, fingerprint
        trusted = f"{verify} -cades -CAfile ca -partial_chain -attime {int(signed.timestamp())}"
        if _openssl(folder, trusted) is None:
            return "signer_unknown", signed, fingerprint
        return "", signed, fingerprint


@functools.lru_cache(maxsize=64)
def _fingerprint(pem: bytes) -> str:
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    return subprocess.run(command, input=pem, capture_output=True, check=False).stdout.decode().strip()


def _openssl(folder: Path, command: str) -> bytes | None:
    done = subprocess.run(["openssl", *command.split()], cwd=folder, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


# --- the chain --------------------------------------------------------------------------------------


def _heads(paths: list[Path], ca_pem: bytes, found: dict[str, list[str]]) -> list[dict[str, Any]]:
    heads: list[dict[str, Any]] = []
    for path in paths:
        try:
            document = json.loads(path.read_bytes())
            body, signature = document["body"], base64.b64decode(document["signature"])
        except (ValueError, KeyError, TypeError) as problem:
            _say(found, "head", f"{path.name}: {problem}")
            continue
        code, _, _ = _judge(signature, _canonical(body), ca_pem)
        if code:
            _say(found, "head", f"{path.name}: {code}")
            continue
        heads.append(body)
    heads.sort(key=lambda body: int(body["number"]))
    for one, other in itertools.pairwise(heads):
        follows = hashlib.sha256(_canonical(one)).hexdigest() == other["previous_head_sha256"]
        counted = one["sequence"] + other["count"] == other["sequence"]
        if other["number"] != one["number"] + 1 or not follows or not counted:
            _say(found, "head", f"head {other['number']} does not follow head {one['number']}")
    return heads


def _chain(places: list[dict[str, Any]], heads: list[dict[str, Any]], found: dict[str, list[str]]) -> None:
    places = sorted(places, key=lambda place: int(place["sequence"]))
    by_sequence: dict[int, list[dict[str, Any]]] = {}
    for place in places:
        by_sequence.setdefault(place["sequence"], []).append(place)
    digests = {place["digest"] for place in places}
    for sequence, rows in by_sequence.items():
        if len(rows) > 1:
            same = len({row["digest"] for row in rows}) == 1
            _say(found, "replayed" if same else "doubled", str(sequence))
        before = {row["digest"] for row in by_sequence.get(sequence - 1, [])}
        before = {NOTHING} if sequence == 1 else before
        for row in rows:
            if before and row["previous"] not in before:
                _say(found, "reordered" if row["previous"] in digests else "altered", str(sequence))
    first, last = min(by_sequence, default=1), max(by_sequence, default=0)
    if first > 1:
        _say(found, "beginning", f"{first} is the first that is here")
    end = max([last, *(head["sequence"] for head in heads)])
    for sequence in range(first, end + 1):
        if sequence not in by_sequence:
            _say(found, "missing", str(sequence))
    for head in heads:
        rows = by_sequence.get(head["sequence"], [])
        if rows and head["manifest_sha256"] not in {row["digest"] for row in rows}:
            _say(found, "altered", f"head {head['number']} states another {head['sequence']}")
    signed = [place["signed"] for place in places if place["signed"] is not None]
    if signed != sorted(signed):
        _say(found, "clock", "the clock went back")
