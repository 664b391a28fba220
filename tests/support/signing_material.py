"""Keys, certificates and authorities for the tests of evidence, and openssl's opinion."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from recorderd.evidence.keys import Signer

NOW_UTC_S = int(datetime.now(tz=UTC).timestamp())

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_certificate(
    name: str,
    key: Key,
    *,
    issuer: tuple[x509.Certificate, Key] | None = None,
    ca: bool = False,
    path_length: int | None = None,
    signs: bool = True,
    days: tuple[float, float] = (-1, 30),
) -> x509.Certificate:
    """Issue a certificate; without an issuer it is its own."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    now = datetime.now(tz=UTC)
    usage = x509.KeyUsage(
        digital_signature=signs and not ca,
        content_commitment=signs and not ca,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def p256() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(*certificates: x509.Certificate) -> bytes:
    """Write certificates as PEM, one after the other."""
    return b"".join(entry.public_bytes(serialization.Encoding.PEM) for entry in certificates)


def write_key(path: Path, key: Key, *, mode: int = 0o600) -> Path:
    """Write a private key as a file with exactly this mode."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(pem)
    path.chmod(mode)
    return path


def loopback_tls(*, certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    """Make a TLS server of this machine, whose certificate is its own authority."""
    key, now = p256(), datetime.now(tz=UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(pem_of(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, write_key(key_file, key))
    return context


def make_signer(folder: Path, key: Key, *chain: x509.Certificate) -> Signer:
    """Make a signer through files, as the programs do."""
    certificate_file = folder / "chain.pem"
    certificate_file.write_bytes(pem_of(*chain))
    return Signer.from_files(key_file=write_key(folder / "key.pem", key), certificate_file=certificate_file)


def openssl_accepts(folder: Path, signature: bytes, content: bytes, ca_pem: bytes) -> bool:
    """Ask openssl, as the README tells a court's expert to."""
    (folder / "x.p7s").write_bytes(signature)
    (folder / "x").write_bytes(content)
    (folder / "ca.pem").write_bytes(ca_pem)
    verify = "openssl cms -verify -binary -cades -inform DER -in x.p7s -content x -CAfile ca.pem"
    arguments = [*verify.split(), "-purpose", "any", "-out", "/dev/null"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, check=False)
    assert (b"CAdES Verification successful" in done.stderr) == (done.returncode == 0), done.stderr
    return done.returncode == 0
