"""The whole house on loopback: quickstart's set-up, the three programs, and a look at the result."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile

from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from tests.support.free_ports import free_port
from tests.support.programs import ROOT, Program, Programs, wait_until

I16 = np.ndarray[Any, np.dtype[np.int16]]


def run_program(module: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of our programs to its end."""
    code = f"import sys; from recorderd.app.{module} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=check,
        timeout=60,
        cwd=ROOT,
    )


class Recorded:
    """One recording as an auditor gets it: an exported folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest_path = next(folder.glob("*.manifest.json"))
        self.manifest: dict[str, Any] = json.loads(self.manifest_path.read_text())
        self.certificate = next(folder.glob("*.signer.pem"))

    @property
    def wav(self) -> Path:
        """The audio, where it is not encrypted."""
        return next(self.folder.glob("*.wav"))

    def streams(self) -> list[dict[str, Any]]:
        """The manifest's streams, by channel."""
        return sorted(self.manifest["streams"], key=lambda entry: int(entry["channel"]))

    def samples(self) -> tuple[I16, int]:
        """Read the WAV: samples (n, channels) and the rate."""
        samples, rate_hz = soundfile.read(self.wav, dtype="int16", always_2d=True)
        return samples, int(rate_hz)

    def openssl_verifies(self, content: Path, *, certificate: Path | None = None) -> bool:
        """Let openssl judge a file against its signature."""
        command = [
            *("openssl", "cms", "-verify", "-binary", "-cades", "-inform", "DER"),
            *("-in", f"{content}.p7s", "-content", str(content)),
            *("-CAfile", str(certificate or self.certificate), "-purpose", "any", "-out", "/dev/null"),
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


class House:
    """Archive, recorder and flush of one test; everything ends with it."""

    def __init__(self, folder: Path, *, changes: dict[str, str] | None = None, extra: str = "") -> None:
        self.folder = folder
        self.sip_port, self.archive_port = free_port(), free_port()
        low = 32_000 + 2 * (free_port() % 10_000)
        run_program(
            *("recorderctl", "quickstart", folder),
            *("--sip-port", str(self.sip_port), "--archive-port", str(self.archive_port)),
            *("--rtp-ports", f"{low}-{low + 1999}"),
        )
        self.recorder_toml, self.archive_toml = folder / "recorderd.toml", folder / "archive.toml"
        text = self.recorder_toml.read_text()
        for old, new in (changes or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        self.recorder_toml.write_text(text + extra)
        self.programs = Programs(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.programs.end()
        if kind is not None:
            for log in sorted(self.folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}")

    @property
    def server(self) -> tuple[str, int]:
        """Where the recorder takes sessions."""
        return "127.0.0.1", self.sip_port

    def recorder(self) -> Program:
        """Start recorderd and wait until it takes sessions."""
        program = self.programs.start(
            "recorderd.app.recorderd", ["--config", self.recorder_toml], name="recorderd"
        )
        program.wait_for(" ready")
        return program

    def archive(self) -> Program:
        """Start recorder-archive."""
        return self.programs.archive(self.archive_toml)

    def flush(self) -> Program:
        """Start recorderd-flush."""
        return self.programs.flush(self.recorder_toml)

    def all(self) -> tuple[Program, Program, Program]:
        """Start all three: archive, recorder, flush."""
        return self.archive(), self.recorder(), self.flush()

    def listed(self) -> list[dict[str, Any]]:
        """What `recorder-archive list --json` says."""
        rows: list[dict[str, Any]] = json.loads(
            run_program("archive", "list", "--config", self.archive_toml, "--json").stdout
        )
        return rows

    def status(self) -> dict[str, Any]:
        """What `recorderctl status --json` says."""
        report: dict[str, Any] = json.loads(
            run_program("recorderctl", "status", "--config", self.recorder_toml, "--json", check=False).stdout
        )
        return report

    def wait_archived(self, count: int, *, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """Wait until the archive holds so many recordings."""
        wait_until(
            lambda: self._catalogued() >= count and len(self.listed()) >= count,
            what=f"{count} recordings in the archive",
            timeout_s=timeout_s,
        )
        return self.listed()

    def _catalogued(self) -> int:
        """Count without a program: one is half a second of a processor that others wait for."""
        path = self.folder / "archive" / CATALOGUE_NAME
        if not path.exists():
            return 0
        catalogue = Catalogue(path, read_only=True)
        try:
            return catalogue.count()
        finally:
            catalogue.close()

    def wait_sealed(self, program: Program, count: int, *, timeout_s: float = 60.0) -> list[str]:
        """Wait until the recorder sealed so many; their ids in order."""
        pattern = re.compile(r"recording_sealed subject=(\S+)")
        wait_until(
            lambda: len(pattern.findall(program.text())) >= count,
            what=f"{count} sealed:\n{program.text()}",
            timeout_s=timeout_s,
        )
        return pattern.findall(program.text())

    def export(self, recording_id: str) -> Recorded:
        """Export one recording and open it."""
        out = self.folder / "export" / recording_id
        out.mkdir(parents=True, exist_ok=True)
        run_program("archive", "export", "--config", self.archive_toml, recording_id, "--out", out)
        found = next(out.rglob(f"{recording_id}.manifest.json"))
        return Recorded(found.parent)

    def sealed(self, recording_id: str) -> Recorded:
        """Open a recording that stands in the spool."""
        return Recorded(self.folder / "spool" / "ready" / recording_id)
