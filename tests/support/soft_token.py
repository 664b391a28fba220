"""A token of SoftHSM in a folder of the test: keys that cannot be exported, and a token that can go away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

MODULE: Final = Path("/usr/lib/softhsm/libsofthsm2.so")
CONFIGURATION: Final = "SOFTHSM2_CONF"
PIN: Final = "4711-soft"


class SoftToken:
    """One token; whoever uses it needs ``environment``."""

    def __init__(self, folder: Path, label: str = "recorder") -> None:
        self.label = label
        self.tokens = folder / "tokens"
        self._away = folder / "tokens.away"
        self.tokens.mkdir(parents=True)
        configuration = folder / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\n")
        self.environment = {CONFIGURATION: str(configuration)}
        self.pin_file = folder / "pin"
        self.write_pin(PIN)
        self._tool(
            "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "so-4711", "--pin", PIN
        )

    def write_pin(self, pin: str) -> None:
        """Write the file that URIs name."""
        self.pin_file.touch(mode=0o600)
        self.pin_file.write_text(pin + "\n")

    def uri(self, name: str = "signing") -> str:
        """Name a key of this token."""
        return f"pkcs11:token={self.label};object={name}?module-path={MODULE}&pin-source=file:{self.pin_file}"

    def make_loose_key(self, name: str) -> None:
        """Make a key that may leave the token."""
        self._tool(
            *("pkcs11-tool", "--module", str(MODULE), "--token-label", self.label, "--login", "--pin", PIN),
            *("--keypairgen", "--key-type", "EC:prime256v1", "--label", name, "--id", "01", "--extractable"),
        )

    def objects(self) -> str:
        """What another program says of the token's objects, with what only the owner may see."""
        return self._tool(
            *("pkcs11-tool", "--module", str(MODULE), "--token-label", self.label),
            *("--login", "--pin", PIN, "--list-objects"),
        )

    def take_away(self) -> None:
        """Pull the token out."""
        self.tokens.rename(self._away)
        self.tokens.mkdir()

    def put_back(self) -> None:
        """Plug it in again."""
        self.tokens.rmdir()
        self._away.rename(self.tokens)

    def _tool(self, *command: str) -> str:
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
