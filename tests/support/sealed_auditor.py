"""The auditor (see ``auditor``) with a recipient's key: he opens with openssl, and believes no index.

Rule: nothing of recorderd is imported here. A word beside the auditor's: index, for what stands in clear and
is not canonical, not this recording's, or not what the opened manifest says.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.support import auditor


def audit_sealed(folder: Path, ca: Path, *, certificate: Path, key: Path) -> dict[str, list[str]]:
    """Audit every recording below a folder by its index and by what opens; codes with their reasons."""
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        opened = Path(name)
        for path in sorted(folder.rglob("*.index.json")):
            _index(path, opened, ca.read_bytes(), found, ("-recip", certificate, "-inkey", key))
        for code, reasons in auditor.audit(opened, ca).items():
            for reason in reasons:
                _say(found, code, reason)
    return found


def _say(found: dict[str, list[str]], code: str, reason: str) -> None:
    found.setdefault(code, []).append(reason)


def _index(
    path: Path, opened: Path, ca_pem: bytes, found: dict[str, list[str]], who: tuple[str | Path, ...]
) -> None:
    recording_id = path.name.removesuffix(".index.json")
    content = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    auditor._signature(content, path.name, ca_pem, found)
    try:
        index = json.loads(content[path.name])
        names = [entry["name"] for entry in index["files"]]
        if auditor._canonical(index) != content[path.name] or index["recording_id"] != recording_id:
            raise ValueError("not canonical, or of another")
        if any(not name.startswith(f"{recording_id}.") for name in names):
            raise ValueError("a name tells more than the id")
        if not index["recipients"]:
            raise ValueError("no recipients")
    except (ValueError, KeyError, TypeError) as problem:
        _say(found, "index", f"{recording_id}: {problem}")
        return
    wanted = {
        path.name,
        f"{path.name}.p7s",
        f"{recording_id}.manifest.json.p7s",
        f"{recording_id}.signer.pem",
    }
    wanted |= {*names, *(f"{recording_id}.wav.p7s" for row in index["files"] if row["role"] == "audio")}
    for name in wanted ^ set(content):
        _say(found, "files", f"{name} is {'missing' if name in wanted else 'not in the index'}")
    into = opened / recording_id
    into.mkdir()
    for row in index["files"]:
        _open(row, path.parent, into, found, who)
    for name in content:
        if name.endswith((".p7s", ".signer.pem")) and ".index." not in name:
            shutil.copyfile(path.parent / name, into / name)
    _compare(index, into, found)


def _open(
    row: dict[str, Any], folder: Path, into: Path, found: dict[str, list[str]], who: tuple[str | Path, ...]
) -> None:
    source, target = folder / row["name"], into / row["name"].removesuffix(".p7m")
    if not source.exists():
        return
    octets = source.read_bytes()
    if len(octets) != row["size_bytes"] or hashlib.sha256(octets).hexdigest() != row["sha256"]:
        _say(found, "digest", row["name"])
    command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-in", source, *who, "-out", target]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        target.unlink(missing_ok=True)
        _say(found, "digest", f"{row['name']} does not open")
    elif hashlib.sha256(target.read_bytes()).hexdigest() != row["content_sha256"]:
        _say(found, "digest", f"{row['name']} opens to something else")


def _compare(index: dict[str, Any], into: Path, found: dict[str, list[str]]) -> None:
    """Compare with the opened manifest, and make of that what it would be in clear, for the other audit."""
    path = into / f"{index['recording_id']}.manifest.json"
    if not path.exists():
        return
    raw = path.read_bytes()
    try:
        manifest = json.loads(raw)
        pairs = {
            "manifest_sha256": hashlib.sha256(raw).hexdigest(),
            "outcome": manifest["outcome"],
            "started_on": manifest["started_at"][:10],
            **{key: manifest["rule"][key] for key in ("retention_class", "priority", "mandatory")},
            **{key: manifest[key] for key in ("recorder_id", "sequence", "previous_manifest_sha256")},
            "recipients": manifest["recipients"],
        }
    except (ValueError, KeyError, TypeError) as problem:
        _say(found, "manifest", str(problem))
        return
    for name, value in pairs.items():
        if index[name] != value:
            _say(found, "index", f"{name} is {index[name]!r}, by the manifest {value!r}")
    if index["files"][1:] != manifest["files"]:
        _say(found, "index", "files are not those of the manifest")
