"""An archive of the golden chain with its archive.toml, for the command line."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from recorderd.app.archive import main
from recorderd.flush.curve import make_keypair
from recorderd.policy.retention import RetentionClass
from tests.support.golden import GOLDEN
from tests.support.retention import Archive


class RetentionHouse:
    """archive.toml beside an archive, and its commands."""

    def __init__(self, folder: Path, retention: str, *classes: RetentionClass) -> None:
        self.archive = Archive(folder, *classes)
        self.toml = folder / "archive.toml"
        self.root = self.archive.root
        public, secret = make_keypair()
        (folder / "curve.secret").write_text(secret)
        (folder / "curve.secret").chmod(0o600)
        self.head = f"""
[archive]
id = "arc-1"
bind = "tcp://127.0.0.1:0"
secret_key_file = "curve.secret"
data_dir = "archive"
run_dir = "run"
[receipt]
key_file = "archive.key.pem"
certificate_file = "archive.cert.pem"
[recorders.rec-1]
curve_public_key = '{public}'
certificate_files = ["{GOLDEN / "ca.pem"}"]
"""
        self.configure(retention)

    def configure(self, retention: str) -> None:
        """Write archive.toml with this [retention]."""
        self.toml.write_text(self.head + retention)

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run recorder-archive, in this process: what a program costs to begin is seconds when many run."""
        words = [str(word) for word in arguments]
        at = 2 if words[0] in ("retention", "hold", "audit") else 1
        words = [*words[:at], "--config", str(self.toml), *words[at:]]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(words)
        done = subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
        assert code == 0 or not check, done
        return done

    def fsck(self) -> None:
        """See that the archive is good."""
        done = self.run("fsck", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
