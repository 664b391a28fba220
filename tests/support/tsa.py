"""A time stamping authority of one test: a CA, a certificate, `openssl ts -reply` behind HTTP or HTTPS.

What it does to a query is set by ``TimeAuthority.behave``; every other answer is openssl's own.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from asn1crypto import cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.signing_material import Key, loopback_tls, make_certificate, p256, pem_of, write_key

CONFIGURATION: Final = """
[tsa]
default_tsa = main
[main]
serial = {folder}/serial
crypto_device = builtin
signer_digest = {digest}
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1, millisecs:500
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = {ess}
"""
REPLY: Final = "application/timestamp-reply"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an authority says over HTTP."""

    body: bytes = b""
    kind: str = REPLY
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    pause_s: float = 0.0  # between two octets of the body


def stamping_certificate(
    name: str,
    key: Key,
    issuer: tuple[x509.Certificate, Key],
    *,
    usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.TIME_STAMPING,),
    critical: bool = True,
    days: tuple[float, float] = (-1, 30),
) -> x509.Certificate:
    """Issue a certificate for time stamping."""
    now = datetime.now(tz=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.ExtendedKeyUsage(usages), critical=critical)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key()), critical=False
        )
        .sign(issuer[1], hashes.SHA256())
    )


class StampingMachine:
    """Keys and certificates of an authority, and openssl that stamps with them."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "Test TSA",
        key: Key | None = None,
        intermediate: bool = False,
        digest: str = "sha256",
        ess: str = "sha256",
        **certificate: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        root_key, self.key = p256(), key or p256()
        self.root = make_certificate(f"{name} Root", root_key, ca=True, days=(-400, 4000))
        issuer: tuple[x509.Certificate, Key] = (self.root, root_key)
        chain = []
        if intermediate:
            middle_key = p256()
            middle = make_certificate(
                f"{name} CA", middle_key, issuer=issuer, ca=True, path_length=0, days=(-400, 4000)
            )
            issuer, chain = (middle, middle_key), [middle]
        self.certificate = stamping_certificate(name, self.key, issuer, **certificate)
        self.ca_file = folder / "root.pem"
        self.ca_file.write_bytes(pem_of(self.root))
        (folder / "tsa.pem").write_bytes(pem_of(self.certificate))
        (folder / "chain.pem").write_bytes(pem_of(*chain))
        write_key(folder / "tsa.key", self.key)
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(CONFIGURATION.format(folder=folder, digest=digest, ess=ess))
        self._lock = threading.Lock()

    def reply(self, query: bytes) -> bytes:
        """Let openssl answer a query."""
        with self._lock:
            (self.folder / "q.tsq").write_bytes(query)
            command = "openssl ts -reply -config tsa.cnf -queryfile q.tsq -inkey tsa.key -signer tsa.pem"
            chain = ["-chain", "chain.pem"] if (self.folder / "chain.pem").stat().st_size else []
            done = subprocess.run(
                [*command.split(), *chain, "-out", "r.tsr"],
                cwd=self.folder,
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return (self.folder / "r.tsr").read_bytes()


def openssl_ts_verify(tsr: Path, *, ca_file: Path, data: Path | None = None, digest: str = "") -> bool:
    """Ask openssl, as the README tells a court's expert to."""
    what = ["-data", str(data)] if data else ["-digest", digest]
    done = subprocess.run(
        ["openssl", "ts", "-verify", *what, "-in", str(tsr), "-CAfile", str(ca_file)],
        capture_output=True,
        check=False,
    )
    assert (b"Verification: OK" in done.stdout + done.stderr) == (done.returncode == 0)
    return done.returncode == 0


class TimeAuthority:
    """An authority on loopback; ends with its ``with`` block."""

    def __init__(self, machine: StampingMachine, *, user: str = "", password: str = "", tls: bool = False):
        self.machine = machine
        self.queries: list[bytes] = []
        self.behave: Callable[[bytes], Answer | None] | None = None  # None = hang up
        self.up = True
        self._wanted = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/tsr"
        self.tls_ca_file = machine.folder / "tls.pem"
        if tls:
            self._server.socket = loopback_tls(
                certificate_file=self.tls_ca_file, key_file=self.machine.folder / "tls.key"
            ).wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> TimeAuthority:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def stamp(self, query: bytes) -> Answer:
        """Answer as an authority does."""
        return Answer(body=self.machine.reply(query))

    def stamp_with_another_day(self, days: int) -> None:
        """Let it sign that it is another day."""
        moment = datetime.now(tz=UTC) + timedelta(days=days)

        def wrong(query: bytes) -> Answer:
            machine = self.machine
            moved = resigned(
                machine.reply(query),
                machine.key,
                machine.certificate,
                content=lambda table: table.__setitem__("gen_time", moment),
            )
            return Answer(body=moved)

        self.behave = wrong

    def _handler(authority: TimeAuthority) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                authority.queries.append(query)
                if not authority.up:
                    self.close_connection = True
                    return
                answer: Answer | None = Answer(status=401, kind="text/plain", body=b"who are you?")
                if not authority._wanted or self.headers["Authorization"] == f"Basic {authority._wanted}":
                    answer = (authority.behave or authority.stamp)(query)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in (("Content-Type", answer.kind), *answer.headers):
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                with suppress(OSError):  # who asked left
                    for at in range(len(answer.body) if answer.pause_s else 0):
                        self.wfile.write(answer.body[at : at + 1])
                        time.sleep(answer.pause_s)
                    if not answer.pause_s:
                        self.wfile.write(answer.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def resigned(
    tsr: bytes,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    *,
    content: Callable[[Any], None] = lambda _: None,
    attributes: Callable[[dict[str, Any]], None] = lambda _: None,
    signed: Callable[[Any], None] = lambda _: None,
) -> bytes:
    """Sign a stamp anew by any P-256 key and certificate, with anything in it changed: what openssl will not.

    ``content`` changes the TSTInfo, ``attributes`` the signed attributes by name, ``signed`` the SignedData.
    """
    response = tsp.TimeStampResp.load(tsr)
    outer = response["time_stamp_token"]["content"]
    inner = tsp.TSTInfo.load(bytes(outer["encap_content_info"]["content"]))
    content(inner)
    octets = inner.dump(force=True)
    der = certificate.public_bytes(serialization.Encoding.DER)
    known: dict[str, Any] = {
        "content_type": cms.ContentType("tst_info"),
        "message_digest": core.OctetString(hashlib.sha256(octets).digest()),
        "signing_certificate_v2": tsp.SigningCertificateV2(
            {"certs": [{"cert_hash": hashlib.sha256(der).digest()}]}
        ),
    }
    attributes(known)
    rows = cms.CMSAttributes(
        [cms.CMSAttribute({"type": name, "values": [value]}) for name, value in known.items()]
    )
    leaf = asn1_x509.Certificate.load(der)
    info = outer["signer_infos"][0].copy()
    info["sid"] = cms.SignerIdentifier(
        {
            "issuer_and_serial_number": cms.IssuerAndSerialNumber(
                {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
            )
        }
    )
    info["signed_attrs"] = rows
    info["signature"] = key.sign(b"\x31" + rows.dump()[1:], ec.ECDSA(hashes.SHA256()))
    fresh = cms.SignedData(
        {
            "version": "v3",
            "digest_algorithms": outer["digest_algorithms"],
            "encap_content_info": {"content_type": "tst_info", "content": inner},
            "certificates": [cms.CertificateChoices({"certificate": leaf})],
            "signer_infos": [info],
        }
    )
    signed(fresh)
    token = cms.ContentInfo({"content_type": "signed_data", "content": fresh})
    return bytes(
        tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump(force=True)
    )


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Make an RSA key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def p384() -> ec.EllipticCurvePrivateKey:
    """Make a P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def sha256_hex(content: bytes) -> str:
    """Hash octets."""
    return hashlib.sha256(content).hexdigest()
