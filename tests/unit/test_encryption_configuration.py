"""To whom recordings are encrypted: read once, and refused before the first call with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.app.encryption_configuration import recipients_of
from recorderd.app.recorder_configuration import RecorderConfiguration, load_recorder_configuration
from recorderd.core.errors import ConfigurationError
from recorderd.evidence.envelope import CertificateRecipients, Cipher
from recorderd.evidence.openpgp import PgpRecipients
from tests.support.recipients import keyring, make_recipient
from tests.unit.test_configuration import GOOD


def _load(folder: Path, text: str) -> RecorderConfiguration:
    path = folder / "recorderd.toml"
    path.write_text(GOOD + text)
    return load_recorder_configuration(path)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with certificates that do and do not do, and an OpenPGP key."""
    folder = tmp_path_factory.mktemp("office")
    make_recipient(folder, "ec")
    make_recipient(folder, "rsa", kind="rsa-3072")
    make_recipient(folder, "signs", usage="digitalSignature")
    with keyring() as ring:
        ring.make_key(folder / "key.asc", "x", ("ed25519", "cv25519"))
        (folder / "secret.asc").write_bytes(ring.gpg("--armor", "--export-secret-keys", "x"))
    return folder


def test_recipients_are_read_by_their_kind_with_the_cipher_of_their_section(office: Path) -> None:
    text = """
    [encryption.bank]
    recipients = ["ec.pem", "rsa.pem"]
    cipher = "aes-256-cbc"
    [encryption.clinic]
    recipients = ["key.asc"]
    """
    read = recipients_of(_load(office, text))
    bank, clinic = read["bank"], read["clinic"]
    assert isinstance(bank, CertificateRecipients)
    assert (len(bank.recipients), bank.cipher) == (2, Cipher.AES_256_CBC)
    assert isinstance(clinic, PgpRecipients)
    assert recipients_of(_load(office, "")) == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[encryption.x]\nrecipients = ["signs.pem"]',
            "encryption.x.recipients: .*does not permit keyAgreement",
        ),
        ('[encryption.x]\nrecipients = ["secret.asc"]', "encryption.x.recipients: .*holds a private key"),
        ('[encryption.x]\nrecipients = ["missing.pem"]', "encryption.x.recipients: .*No such file"),
        ('[encryption.x]\nrecipients = ["ec.pem", "key.asc"]', "key.asc .*cannot stand together"),
        ("[encryption.x]\nrecipients = []", "encryption.x.recipients: .*0 are named"),
        ("[encryption.x]", "encryption.x.recipients: missing"),
        ('[encryption.x]\nrecipients = ["ec.pem"]\ncipher = "rc4"', "encryption.x.cipher: .*choose one of"),
        ('[encryption."a b"]\nrecipients = ["ec.pem"]', "encryption.a b: .*is not right"),
        (
            '[[rules]]\nname = "a"\nmode = "always"\nencrypt = "x"',
            r"rules\[0\].encrypt: there is no \[encryption.x\]",
        ),
        (
            '[encryption.x]\nrecipients = ["ec.pem"]\n[[rules]]\nname = "a"\nmode = "never"\nencrypt = "x"',
            r"rules\[0\].encrypt: on a rule that never records",
        ),
    ],
)
def test_what_does_not_do_is_named_with_its_key(office: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        _load(office, text)
