"""Signatures: what our verifier and openssl say of the same octets."""

import base64
import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import algos, cms, core
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from recorderd.core.errors import (
    CertificateUnreadable,
    EvidenceError,
    KeyUnavailable,
    SignatureInvalid,
    SignerUnknown,
)
from recorderd.evidence.cades import CadesForm, assemble, signed_attributes
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer, create_self_signed
from recorderd.evidence.verify import SignerIdentity, TrustStore, verify_detached
from tests.support.signing_material import (
    NOW_UTC_S,
    Key,
    make_certificate,
    make_signer,
    openssl_accepts,
    p256,
    pem_of,
    write_key,
)

CONTENT = b"RIFF....WAVE" * 100
KINDS: dict[str, Callable[[], Key]] = {
    "P-256": p256,
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
}


def _verify(signature: bytes, trust_pem: bytes, content: bytes = CONTENT) -> SignerIdentity:
    trust = TrustStore.from_pem(trust_pem)
    return verify_detached(signature, sha256_hex=sha256_bytes(content), trust=trust, subject="x.wav")


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_and_we_accept_each_kind_of_key_and_refuse_altered_content(tmp_path: Path, kind: str) -> None:
    key = KINDS[kind]()
    certificate = make_certificate("recorder", key)
    signature = make_signer(tmp_path, key, certificate).sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
    ca = pem_of(certificate)
    assert openssl_accepts(tmp_path, signature, CONTENT, ca)
    identity = _verify(signature, ca)
    assert (identity.common_name, identity.signing_time_utc_s) == ("recorder", NOW_UTC_S)
    assert identity.certificate_sha256 == certificate.fingerprint(hashes.SHA256()).hex()
    for position in (0, len(CONTENT) // 2, len(CONTENT) - 1):
        altered = bytearray(CONTENT)
        altered[position] ^= 1
        assert not openssl_accepts(tmp_path, signature, bytes(altered), ca)
        with pytest.raises(SignatureInvalid, match="not what was signed"):
            _verify(signature, ca, bytes(altered))


def test_a_self_signed_certificate_of_ours_is_its_own_authority_for_openssl(tmp_path: Path) -> None:
    key_pem, certificate_pem = create_self_signed(common_name="recorder")
    (tmp_path / "key.pem").touch(mode=0o600)
    (tmp_path / "key.pem").write_bytes(key_pem)
    (tmp_path / "cert.pem").write_bytes(certificate_pem)
    signer = Signer.from_files(key_file=tmp_path / "key.pem", certificate_file=tmp_path / "cert.pem")
    signature = signer.sign_digest(sha256_bytes(CONTENT), signing_time_utc_s=int(time.time()))
    assert signer.certificate_pem == certificate_pem
    assert openssl_accepts(tmp_path, signature, CONTENT, certificate_pem)
    assert _verify(signature, certificate_pem).common_name == "recorder"


def _authorities(*path_lengths: int | None) -> list[tuple[Any, Key]]:
    """Make a root and authorities below it, the root first."""
    made: list[tuple[Any, Key]] = []
    for depth, path_length in enumerate(path_lengths):
        key = p256()
        issuer = made[-1] if made else None
        certificate = make_certificate(f"ca{depth}", key, issuer=issuer, ca=True, path_length=path_length)
        made.append((certificate, key))
    return made


@pytest.mark.parametrize("intermediates", [0, 1, 3])
def test_the_root_alone_vouches_for_a_leaf_through_embedded_authorities(
    tmp_path: Path, intermediates: int
) -> None:
    made, key = _authorities(*[None] * (intermediates + 1)), p256()
    chain = [make_certificate("leaf", key, issuer=made[-1]), *(pair[0] for pair in reversed(made[1:]))]
    signature = make_signer(tmp_path, key, *chain).sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
    root = pem_of(made[0][0])
    assert openssl_accepts(tmp_path, signature, CONTENT, root)
    assert _verify(signature, root).common_name == "leaf"
    stranger = pem_of(_authorities(None)[0][0])
    assert not openssl_accepts(tmp_path, signature, CONTENT, stranger)
    with pytest.raises(SignerUnknown, match="leaf"):
        _verify(signature, stranger)


def test_an_authority_with_no_room_below_it_does_not_vouch_through_another(tmp_path: Path) -> None:
    made, key = _authorities(0, None), p256()
    chain = [make_certificate("leaf", key, issuer=made[1]), made[1][0]]
    signature = make_signer(tmp_path, key, *chain).sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
    assert not openssl_accepts(tmp_path, signature, CONTENT, pem_of(made[0][0]))
    with pytest.raises(SignerUnknown):
        _verify(signature, pem_of(made[0][0]))


@pytest.mark.parametrize("weak", ["SHA1", "SHA224"])
def test_an_authority_that_issues_over_a_weak_hash_does_not_vouch(tmp_path: Path, weak: str) -> None:
    made, key = _authorities(None), p256()
    write_key(tmp_path / "ca.key", made[0][1])
    write_key(tmp_path / "leaf.key", key)
    (tmp_path / "ca.pem").write_bytes(pem_of(made[0][0]))
    for command in (
        "openssl req -new -key leaf.key -subj /CN=leaf -out leaf.csr",
        f"openssl x509 -req -{weak.lower()} -in leaf.csr -CA ca.pem -CAkey ca.key -days 9 -out leaf.pem",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    leaf = x509.load_pem_x509_certificate((tmp_path / "leaf.pem").read_bytes())
    assert isinstance(leaf.signature_hash_algorithm, getattr(hashes, weak))
    signer = Signer(key=key, certificate_pem=pem_of(leaf))
    signature = signer.sign_bytes(CONTENT, signing_time_utc_s=int(time.time()) + 1)  # openssl dated it now
    with pytest.raises(SignerUnknown):
        _verify(signature, pem_of(made[0][0]))
    assert _verify(signature, pem_of(leaf)).common_name == "leaf"


def test_a_trusted_signer_cannot_vouch_for_another(tmp_path: Path) -> None:
    boss_key, key = p256(), p256()
    boss = make_certificate("boss", boss_key)
    leaf = make_certificate("leaf", key, issuer=(boss, boss_key))
    signature = make_signer(tmp_path, key, leaf, boss).sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
    assert not openssl_accepts(tmp_path, signature, CONTENT, pem_of(boss))
    with pytest.raises(SignerUnknown):
        _verify(signature, pem_of(boss))


def test_another_authority_of_the_same_name_does_not_vouch(tmp_path: Path) -> None:
    made, key = _authorities(None), p256()
    leaf = make_certificate("leaf", key, issuer=made[0])
    signature = make_signer(tmp_path, key, leaf).sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
    with pytest.raises(SignerUnknown):
        _verify(signature, pem_of(_authorities(None)[0][0]))


@pytest.mark.parametrize("shift_days", [-2, 31])
def test_nothing_is_signed_outside_the_certificates_validity_and_it_would_be_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift_days: int
) -> None:
    key = p256()
    certificate = make_certificate("r", key)
    at_utc_s = NOW_UTC_S + shift_days * 86_400
    signer = make_signer(tmp_path, key, certificate)
    with pytest.raises(
        KeyUnavailable, match=r"of this certificate cannot be used now: is valid from .* only"
    ):
        signer.sign_bytes(CONTENT, signing_time_utc_s=at_utc_s)
    monkeypatch.setattr(Signer, "check_valid", lambda *_, **__: None)  # somebody else's program
    signature = signer.sign_bytes(CONTENT, signing_time_utc_s=at_utc_s)
    with pytest.raises(SignatureInvalid, match="not valid when it signed"):
        _verify(signature, pem_of(certificate))


def test_a_signature_holds_after_its_certificate_expired(tmp_path: Path) -> None:
    key = p256()
    certificate = make_certificate("r", key, days=(-10, -1))
    signer = Signer(key=key, certificate_pem=pem_of(certificate))
    signature = signer.sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S - 5 * 86_400)
    assert _verify(signature, pem_of(certificate)).common_name == "r"


def test_a_signing_time_after_2049_is_written_as_openssl_reads_it(tmp_path: Path) -> None:
    key = p256()
    certificate = make_certificate("r", key, days=(-1, 365 * 40))
    at_utc_s = NOW_UTC_S + 30 * 365 * 86_400
    signature = make_signer(tmp_path, key, certificate).sign_bytes(CONTENT, signing_time_utc_s=at_utc_s)
    assert openssl_accepts(tmp_path, signature, CONTENT, pem_of(certificate))
    assert _verify(signature, pem_of(certificate)).signing_time_utc_s == at_utc_s


def test_the_same_certificate_twice_in_the_file_is_embedded_once(tmp_path: Path) -> None:
    key = p256()
    certificate = make_certificate("r", key)
    signer = make_signer(tmp_path, key, certificate, certificate)
    signature = signer.sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
    assert openssl_accepts(tmp_path, signature, CONTENT, pem_of(certificate))
    assert _verify(signature, pem_of(certificate)).common_name == "r"


@pytest.mark.parametrize("algorithm", ["sha256_ecdsa", "sha256_rsa"])
@pytest.mark.parametrize(
    "signing_time_utc_s", [0, NOW_UTC_S, 2_600_000_000], ids=["1970", "now", "after 2049"]
)
def test_what_is_written_quickly_is_what_the_structures_give(algorithm: str, signing_time_utc_s: int) -> None:
    chain_der = [make_certificate(name, p256()).public_bytes(serialization.Encoding.DER) for name in "rc"]
    digest, signature = sha256_bytes(CONTENT), bytes(range(200)) * 2
    known = signed_attributes(sha256_hex=digest, signing_time_utc_s=signing_time_utc_s, leaf_der=chain_der[0])
    form = CadesForm(chain_der=chain_der, algorithm=algorithm)
    attributes = form.attributes(sha256_hex=digest, signing_time_utc_s=signing_time_utc_s)
    assert form.signed_octets(attributes) == known.dump()
    assert form.write(attributes=attributes, signature=signature) == assemble(
        chain_der=chain_der, attributes=known, algorithm=algorithm, signature=signature
    )
    with pytest.raises(ValueError, match="SHA-256"):
        form.attributes(sha256_hex="00", signing_time_utc_s=0)


class Forge:
    """A holder of a trusted key who writes signatures that differ from ours in one point."""

    def __init__(self) -> None:
        self.key = p256()
        self.certificate = make_certificate("r", self.key)
        self.pem = pem_of(self.certificate)
        self.der = self.certificate.public_bytes(serialization.Encoding.DER)

    def attributes(self) -> cms.CMSAttributes:
        """The attributes as they should be."""
        return signed_attributes(
            sha256_hex=sha256_bytes(CONTENT), signing_time_utc_s=NOW_UTC_S, leaf_der=self.der
        )

    def sign(self, attributes: cms.CMSAttributes) -> bytes:
        """Sign these attributes truly."""
        signature = self.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
        return assemble(
            chain_der=[self.der], attributes=attributes, algorithm="sha256_ecdsa", signature=signature
        )

    def resign(self, change: Callable[[cms.CMSAttributes], cms.CMSAttributes]) -> bytes:
        """Change the attributes, then sign them truly."""
        return self.sign(change(cms.CMSAttributes.load(self.attributes().dump())))

    def rewrap(self, change: Callable[[Any], None]) -> bytes:
        """Change the structure around a true signature."""
        content = cms.ContentInfo.load(self.sign(self.attributes()))
        change(content["content"])
        return bytes(content.dump(force=True))


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


def _without(kind: str) -> Callable[[cms.CMSAttributes], cms.CMSAttributes]:
    return lambda attributes: cms.CMSAttributes([a for a in attributes if a["type"].native != kind])


def _with(kind: str, value: Any) -> Callable[[cms.CMSAttributes], cms.CMSAttributes]:
    def change(attributes: cms.CMSAttributes) -> cms.CMSAttributes:
        kept = [a for a in attributes if a["type"].native != kind]
        return cms.CMSAttributes([*kept, cms.CMSAttribute({"type": kind, "values": [value]})])

    return change


def _certificate_hash(**fields: Any) -> Callable[[cms.CMSAttributes], cms.CMSAttributes]:
    return _with("signing_certificate_v2", {"certs": [fields]})


def test_the_forge_makes_good_signatures_when_nothing_is_changed(forge: Forge) -> None:
    assert _verify(forge.resign(lambda attributes: attributes), forge.pem).common_name == "r"
    assert _verify(forge.rewrap(lambda signed: None), forge.pem).common_name == "r"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without("content_type"), "content_type is missing"),
        (_without("message_digest"), "message_digest is missing"),
        (_without("signing_time"), "signing_time is missing"),
        (_without("signing_certificate_v2"), "signing_certificate_v2 is missing"),
        (_with("content_type", cms.ContentType("signed_data")), "content type is not data"),
        (_with("message_digest", core.OctetString(bytes(32))), "not what was signed"),
        (_with("message_digest", core.OctetString(b"")), "not what was signed"),
        (_certificate_hash(cert_hash=bytes(32)), "the certificate that signed is not in it"),
        (_certificate_hash(cert_hash=b""), "the certificate that signed is not in it"),
        (_certificate_hash(hash_algorithm={"algorithm": "sha1"}, cert_hash=bytes(20)), "another hash"),
        (_with("signing_certificate_v2", {"certs": []}), "malformed"),
    ],
)
def test_truly_signed_attributes_that_are_not_as_they_must_be_are_refused(
    forge: Forge, change: Callable[[cms.CMSAttributes], cms.CMSAttributes], reason: str
) -> None:
    with pytest.raises(SignatureInvalid, match=reason):
        _verify(forge.resign(change), forge.pem)


def test_an_attribute_that_stands_twice_is_refused(forge: Forge) -> None:
    def twice(attributes: cms.CMSAttributes) -> cms.CMSAttributes:
        other = {"type": "message_digest", "values": [core.OctetString(bytes(32))]}
        return cms.CMSAttributes([*attributes, cms.CMSAttribute(other)])

    with pytest.raises(SignatureInvalid, match="stands twice"):
        _verify(forge.resign(twice), forge.pem)


def _drop_attributes(signed: Any) -> None:
    del signed["signer_infos"][0]["signed_attrs"]


def _second_signer(signed: Any) -> None:
    signed["signer_infos"].append(signed["signer_infos"][0].copy())


def _no_signer(signed: Any) -> None:
    signed["signer_infos"] = []


def _no_certificate(signed: Any) -> None:
    signed["certificates"] = []


def _attach(signed: Any) -> None:
    signed["encap_content_info"] = {"content_type": "data", "content": CONTENT}


def _sha1(signed: Any) -> None:
    signed["signer_infos"][0]["digest_algorithm"] = algos.DigestAlgorithm({"algorithm": "sha1"})


def _rsa(signed: Any) -> None:
    algorithm = algos.SignedDigestAlgorithm({"algorithm": "sha256_rsa"})
    signed["signer_infos"][0]["signature_algorithm"] = algorithm


def _unknown(signed: Any) -> None:
    algorithm = algos.SignedDigestAlgorithm({"algorithm": "1.2.3.4"})
    signed["signer_infos"][0]["signature_algorithm"] = algorithm


def _unsigned_attribute(signed: Any) -> None:
    attribute = cms.CMSAttribute({"type": "message_digest", "values": [core.OctetString(bytes(32))]})
    signed["signer_infos"][0]["unsigned_attrs"] = cms.CMSAttributes([attribute])


@pytest.mark.parametrize(
    "change",
    [
        *(_drop_attributes, _second_signer, _no_signer, _no_certificate, _attach),
        *(_sha1, _rsa, _unknown, _unsigned_attribute),
    ],
)
def test_a_structure_other_than_ours_around_a_true_signature_is_refused(
    forge: Forge, change: Callable[[Any], None]
) -> None:
    with pytest.raises(SignatureInvalid):
        _verify(forge.rewrap(change), forge.pem)


def test_trailing_missing_or_leading_octets_are_refused(forge: Forge) -> None:
    good = forge.sign(forge.attributes())
    for bad in (good + b"\0", good[:-1], b"\0" + good, good + good, b"", b"\x30\x80", bytes(70_000)):
        with pytest.raises(SignatureInvalid):
            _verify(bad, forge.pem)


def test_another_encoding_of_the_same_values_is_refused(forge: Forge) -> None:
    good = forge.sign(forge.attributes())
    body = good[4:]  # 30 82 hh ll: the same length in one octet more
    longer = b"\x30\x83" + len(body).to_bytes(3, "big") + body
    assert cms.ContentInfo.load(longer)["content_type"].native == "signed_data"
    with pytest.raises(SignatureInvalid):
        _verify(longer, forge.pem)


def test_a_certificate_swapped_for_a_later_one_of_the_same_key_and_serial_is_refused(tmp_path: Path) -> None:
    key = p256()
    first, second = make_certificate("r", key), make_certificate("r", key, days=(-1, 300))
    signer = make_signer(tmp_path, key, first)
    content = cms.ContentInfo.load(signer.sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S))
    other = Signer(key=key, certificate_pem=pem_of(second)).sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
    content["content"]["certificates"] = cms.ContentInfo.load(other)["content"]["certificates"]
    sid = cms.ContentInfo.load(other)["content"]["signer_infos"][0]["sid"]
    content["content"]["signer_infos"][0]["sid"] = sid
    with pytest.raises(SignatureInvalid, match="the certificate that signed is not in it"):
        _verify(bytes(content.dump(force=True)), pem_of(first, second))


def test_weak_keys_and_certificates_not_for_signing_are_refused_even_when_trusted() -> None:
    weak, key = rsa.generate_private_key(65537, 2048), p256()
    cases: dict[str, tuple[Key, Any]] = {
        "RSA of 2048 bits": (weak, make_certificate("r", weak)),
        "its key usage": (key, make_certificate("r", key, signs=False)),
    }
    for reason, (signing_key, certificate) in cases.items():
        signer = Signer(key=signing_key, certificate_pem=pem_of(certificate))
        signature = signer.sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
        with pytest.raises(SignatureInvalid, match=reason):
            _verify(signature, pem_of(certificate))


def test_a_name_cannot_write_lines_into_a_log(tmp_path: Path) -> None:
    key = p256()
    certificate = make_certificate("r\nverified: \x1b[32mall", key)
    signature = make_signer(tmp_path, key, certificate).sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)
    assert _verify(signature, pem_of(certificate)).common_name == "r?verified: ?[32mall"


def test_an_empty_trust_store_trusts_nobody_and_rubbish_is_no_trust_store(
    forge: Forge, tmp_path: Path
) -> None:
    good = forge.sign(forge.attributes())
    with pytest.raises(SignerUnknown):
        verify_detached(
            good, sha256_hex=hashlib.sha256(CONTENT).hexdigest(), trust=TrustStore.from_files([]), subject="x"
        )
    with pytest.raises(EvidenceError, match="no certificate in PEM"):
        TrustStore.from_pem(b"rubbish")
    version = forge.der.index(b"\xa0\x03\x02\x01\x02") + 4
    later = base64.encodebytes(forge.der[:version] + b"\x03" + forge.der[version + 1 :])
    with pytest.raises(EvidenceError, match="no certificate in PEM"):
        TrustStore.from_pem(b"-----BEGIN CERTIFICATE-----\n" + later + b"-----END CERTIFICATE-----\n")
    with pytest.raises(CertificateUnreadable, match="No such file"):
        TrustStore.from_files([tmp_path / "none.pem"])
    (tmp_path / "rubbish.pem").write_bytes(b"rubbish")
    with pytest.raises(CertificateUnreadable, match=r"rubbish\.pem cannot be used: no certificate in PEM"):
        TrustStore.from_files([tmp_path / "rubbish.pem"])
