"""Keys in a token: they sign for us and for openssl, never leave, and may go away and come back."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pkcs11
import pytest

from recorderd.core.errors import KeyUnavailable, KeyUnusable
from recorderd.evidence import token_key
from recorderd.evidence.certificates import make_request, self_signed
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.evidence.signing_key import KeyKind, public_to_pem
from recorderd.evidence.token_key import take_or_make
from recorderd.evidence.token_uri import parse_token_uri, uri_flaw
from recorderd.evidence.verify import TrustStore, verify_detached
from tests.support.signing_material import make_certificate, openssl_accepts, p256, pem_of
from tests.support.soft_token import MODULE, SoftToken

CONTENT = b"RIFF....WAVE" * 100


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftToken]:
    made = SoftToken(tmp_path / "token")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    pkcs11.unload(str(MODULE))  # the next test's token stands elsewhere


def _signer(token: SoftToken, folder: Path, kind: KeyKind = KeyKind.P256) -> Signer:
    key, made = take_or_make(parse_token_uri(token.uri()), kind)
    assert made
    (folder / "cert.pem").write_bytes(self_signed(key, subject="CN=recorder", valid_days=30))
    return Signer.from_token(uri=token.uri(), certificate_file=folder / "cert.pem")


def _sign(signer: Signer) -> bytes:
    return signer.sign_bytes(CONTENT, signing_time_utc_s=int(time.time()))


@pytest.mark.parametrize("kind", KeyKind)
def test_openssl_and_we_accept_what_a_token_signs(token: SoftToken, tmp_path: Path, kind: KeyKind) -> None:
    signer = _signer(token, tmp_path, kind)
    signature = _sign(signer)
    assert openssl_accepts(tmp_path, signature, CONTENT, signer.certificate_pem)
    assert not openssl_accepts(tmp_path, signature, CONTENT + b"\0", signer.certificate_pem)
    trust = TrustStore.from_pem(signer.certificate_pem)
    identity = verify_detached(signature, sha256_hex=sha256_bytes(CONTENT), trust=trust, subject="x")
    assert identity.common_name == "recorder"


@pytest.mark.parametrize("kind", KeyKind)
def test_openssl_verifies_the_request_of_a_token_s_key(
    token: SoftToken, tmp_path: Path, kind: KeyKind
) -> None:
    key, _ = take_or_make(parse_token_uri(token.uri()), kind)
    request = tmp_path / "request.pem"
    request.write_bytes(make_request(key, subject="CN=rec,O=Bank\\, AG,C=de"))
    command = ["openssl", "req", "-in", request, "-verify", "-noout", "-subject", "-nameopt", "RFC2253"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "OK" in told.stderr
    assert told.stdout.strip() == "subject=CN=rec,O=Bank\\, AG,C=de"


def test_a_key_made_in_a_token_cannot_be_exported_as_another_program_sees_it(
    token: SoftToken, tmp_path: Path
) -> None:
    _signer(token, tmp_path)
    private = token.objects().split("Private Key Object")[1]
    assert "sensitive, always sensitive, never extractable, local" in private


def test_a_key_that_is_there_is_taken_and_never_made_again(token: SoftToken, tmp_path: Path) -> None:
    first, made = take_or_make(parse_token_uri(token.uri()), KeyKind.P256)
    again, made_again = take_or_make(parse_token_uri(token.uri()), KeyKind.RSA3072)
    assert (made, made_again) == (True, False)
    assert first.public == again.public
    assert token.objects().count("Private Key Object") == 1


def test_a_token_that_went_away_signs_nothing_and_signs_again_when_it_is_back(
    token: SoftToken, tmp_path: Path
) -> None:
    signer = _signer(token, tmp_path)
    token.take_away()
    for _ in range(2):
        with pytest.raises(KeyUnavailable, match=r"token=recorder;object=signing cannot be used now: "):
            _sign(signer)
    with pytest.raises(KeyUnavailable, match="no such token is there"):
        Signer.from_token(uri=token.uri(), certificate_file=tmp_path / "cert.pem")
    token.put_back()
    assert openssl_accepts(tmp_path, _sign(signer), CONTENT, signer.certificate_pem)


def test_two_keys_of_one_token_sign_side_by_side(token: SoftToken, tmp_path: Path) -> None:
    first = _signer(token, tmp_path)
    key, _ = take_or_make(parse_token_uri(token.uri("next")), KeyKind.P256)
    (tmp_path / "next.pem").write_bytes(self_signed(key, subject="CN=next", valid_days=30))
    second = Signer.from_token(uri=token.uri("next"), certificate_file=tmp_path / "next.pem")
    for _ in range(2):
        for signer in (first, second):
            assert openssl_accepts(tmp_path, _sign(signer), CONTENT, signer.certificate_pem)


def test_a_wrong_pin_is_tried_once_and_then_no_more(
    token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = _signer(token, tmp_path)
    token.take_away()
    with pytest.raises(KeyUnavailable):
        _sign(signer)
    token.put_back()
    token.write_pin("wrong-pin")
    tried = []
    real = token_key.open_session
    monkeypatch.setattr(token_key, "open_session", lambda uri, **how: tried.append(uri) or real(uri, **how))
    counts = []
    for _ in range(3):
        with pytest.raises(KeyUnusable, match=r"does not take the PIN \(PinIncorrect\)") as caught:
            _sign(signer)
        assert not isinstance(caught.value, KeyUnavailable)
        assert "wrong-pin" not in str(caught.value)
        assert caught.value.__context__ is None or "wrong-pin" not in str(caught.value.__context__)
        counts.append(len(tried))
    assert counts[0] > 0
    assert counts == [counts[0]] * 3


def test_a_key_that_could_be_exported_is_refused(token: SoftToken, tmp_path: Path) -> None:
    token.make_loose_key("loose")
    (tmp_path / "cert.pem").write_bytes(pem_of(make_certificate("r", p256())))
    with pytest.raises(KeyUnusable, match="can be exported from its token"):
        take_or_make(parse_token_uri(token.uri("loose")), KeyKind.P256)
    with pytest.raises(KeyUnusable, match="can be exported from its token"):
        Signer.from_token(uri=token.uri("loose"), certificate_file=tmp_path / "cert.pem")


def test_a_key_that_is_not_the_certificate_s_is_refused(token: SoftToken, tmp_path: Path) -> None:
    _signer(token, tmp_path)
    (tmp_path / "other.pem").write_bytes(pem_of(make_certificate("other", p256())))
    with pytest.raises(KeyUnusable, match="does not belong to the certificate"):
        Signer.from_token(uri=token.uri(), certificate_file=tmp_path / "other.pem")


def test_a_key_or_a_library_that_is_not_there_is_named(token: SoftToken, tmp_path: Path) -> None:
    _signer(token, tmp_path)
    with pytest.raises(KeyUnusable, match="object=none cannot be used: is not in its token"):
        Signer.from_token(uri=token.uri("none"), certificate_file=tmp_path / "cert.pem")
    elsewhere = token.uri().replace("libsofthsm2", "libnone")
    with pytest.raises(KeyUnusable, match=r"libnone\.so cannot be used: is not there"):
        Signer.from_token(uri=elsewhere, certificate_file=tmp_path / "cert.pem")
    token.pin_file.chmod(0o644)
    with pytest.raises(KeyUnusable, match="pin cannot be used: mode 644 lets others at it"):
        Signer.from_token(uri=token.uri(), certificate_file=tmp_path / "cert.pem")


GOOD = "pkcs11:token=a%20b;object=k;id=%01%FF;type=private?module-path=/lib/x.so&pin-source=file:///etc/pin"


def test_a_uri_is_read_as_rfc_7512_writes_it() -> None:
    uri = parse_token_uri(GOOD)
    assert (uri.token, uri.object, uri.id) == ("a b", "k", b"\x01\xff")
    assert (uri.module, uri.pin_source) == (Path("/lib/x.so"), Path("/etc/pin"))
    assert uri_flaw(GOOD) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with pkcs11:"),
        ("/etc/key.pem", "does not begin with pkcs11:"),
        (GOOD.replace("token=a%20b", "model=x"), "token is missing"),
        (GOOD.replace("object=k;id=%01%FF;", ""), "object is missing"),
        (GOOD.replace("type=private", "type=cert"), "type must be private"),
        (GOOD.replace("type=private", "library-version=3"), "one of its attributes is none of"),
        (GOOD.replace("type=private", "object=z"), "object stands twice"),
        (GOOD.replace("%20", "%FF"), "token is not UTF-8"),
        (GOOD.replace("%20", "%0A"), "token is not printable"),
        (GOOD.replace("/lib/x.so", "x.so"), "module-path is missing: the absolute path"),
        (GOOD.replace("file:///etc/pin", "pin"), "pin-source is missing"),
        (
            GOOD.replace("pin-source=file:///etc/pin", "pin-value=s3cret"),
            "a PIN must not stand in a configuration",
        ),
        (GOOD + "&s3cret", "one of its attributes is none of"),
    ],
)
def test_a_uri_that_is_none_is_refused_by_the_part_that_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(KeyUnusable, match=reason) as caught:
        parse_token_uri(text)
    assert "s3cret" not in str(caught.value)
    assert str(uri_flaw(text)).startswith(str(caught.value.fields["reason"]))


def test_a_signature_s_digest_is_what_the_token_was_given(token: SoftToken, tmp_path: Path) -> None:
    key, _ = take_or_make(parse_token_uri(token.uri()), KeyKind.P256)
    digest = hashlib.sha256(CONTENT).digest()
    (tmp_path / "public.pem").write_bytes(public_to_pem(key.public))
    (tmp_path / "content").write_bytes(CONTENT)
    (tmp_path / "signature").write_bytes(key.sign(digest))
    command = "openssl dgst -sha256 -verify public.pem -signature signature content"
    assert subprocess.run(command.split(), cwd=tmp_path, capture_output=True, check=False).returncode == 0
