"""Recipients of encrypted recordings, made by openssl and gpg, and what those two say of what we write."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

KINDS: Final = {
    "rsa-3072": ("rsa:3072", "keyEncipherment"),
    "p-256": ("ec", "keyAgreement"),
    "p-384": ("ec", "keyAgreement"),
}
_CURVES: Final = {"p-256": "P-256", "p-384": "P-384"}


def make_recipient(
    folder: Path,
    name: str,
    *,
    kind: str = "p-256",
    usage: str | None = None,
    days: str = "30",
    new_key: str | None = None,
    made: str = "",
) -> Path:
    """Make NAME.pem (certificate) and NAME.key with openssl, when ``made`` says; gives the certificate."""
    algorithm, fitting = KINDS[kind]
    options = ["-newkey", new_key or algorithm]
    if algorithm == "ec" and new_key is None:
        options += ["-pkeyopt", f"ec_paramgen_curve:{_CURVES[kind]}"]
    certificate = folder / f"{name}.pem"
    subprocess.run(
        [
            *(("faketime", made) if made else ()),
            *("openssl", "req", "-x509", "-nodes", "-subj", f"/CN={name}", "-days", days, *options),
            *("-addext", f"keyUsage=critical,{usage or fitting}"),
            *("-keyout", folder / f"{name}.key", "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


def openssl_opens(envelope: Path, certificate: Path, *, out: Path | None = None) -> bytes | None:
    """Let openssl decrypt; None when it refuses."""
    target = out or envelope.with_suffix(".opened")
    done = subprocess.run(
        [
            *("openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-in", envelope),
            *("-recip", certificate, "-inkey", certificate.with_suffix(".key"), "-out", target),
        ],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        return None
    return b"" if out else target.read_bytes()


class Keyring:
    """A GnuPG home with a key of its own, as a customer has it; ends with its agent stopped.

    The home has a short path: the agent's socket must fit into an address.
    """

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="gpg"))

    def gpg(self, *arguments: str | Path, content: bytes | None = None, check: bool = True) -> bytes:
        """Run gpg without asking anybody."""
        command = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        done = subprocess.run(command, env=self._environment, input=content, capture_output=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(done.stderr.decode())
        return done.stdout if done.returncode == 0 else b""

    def make_key(
        self,
        target: Path,
        name: str,
        algorithms: Sequence[str] = ("rsa3072", "rsa3072"),
        *,
        expires: str = "0",
    ) -> Path:
        """Make a key with a subkey for encryption, and write its public part."""
        self.gpg("--quick-gen-key", name, algorithms[0], "sign", expires)
        fingerprint = self.fingerprint(name)
        for algorithm in algorithms[1:]:
            self.gpg("--quick-add-key", fingerprint, algorithm, "encr", expires)
        target.write_bytes(self.gpg("--armor", "--export", name))
        return target

    def fingerprint(self, name: str) -> str:
        """Look up a key's fingerprint."""
        rows = self.gpg("--with-colons", "--list-keys", name).decode().splitlines()
        return next(row.split(":")[9] for row in rows if row.startswith("fpr:"))

    def close(self) -> None:
        """Stop the agent of this home and remove the home."""
        subprocess.run(["gpgconf", "--kill", "all"], env=self._environment, capture_output=True, check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "GNUPGHOME": str(self.home)}


@contextmanager
def keyring() -> Iterator[Keyring]:
    """Give a keyring for the time of a test."""
    made = Keyring()
    try:
        yield made
    finally:
        made.close()
