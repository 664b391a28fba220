"""SRTP written from the RFCs with nothing of libsrtp, so that recorder and test cannot be wrong in one way.

Source: RFC 3711 sections 3.4 (SRTCP), 4.1.1 (AES-CM), 4.2 (HMAC-SHA1), 4.3 (key derivation); RFC 6188;
RFC 7714 sections 8 and 9 (GCM).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.rtp_sender import RtpStream

SUITES = {  # key, salt, tag of RTP in octets; the tag of GCM is the cipher's own
    "AES_CM_128_HMAC_SHA1_80": (16, 14, 10),
    "AES_CM_128_HMAC_SHA1_32": (16, 14, 4),
    "AES_256_CM_HMAC_SHA1_80": (32, 14, 10),
    "AES_256_CM_HMAC_SHA1_32": (32, 14, 4),
    "AEAD_AES_128_GCM": (16, 12, 0),
    "AEAD_AES_256_GCM": (32, 12, 0),
}
RTP_LABELS, RTCP_LABELS = (0, 1, 2), (3, 4, 5)  # encryption, authentication, salt


def keystream(key: bytes, iv: int, length: int) -> bytes:
    """AES in counter mode from an IV of 128 bits."""
    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv.to_bytes(16, "big"))).encryptor()
    return encryptor.update(bytes(length))


def derive(master: bytes, salt: bytes, label: int, length: int) -> bytes:
    """Derive a session key with a key derivation rate of zero; a short salt is filled up with zeros (GCM)."""
    x = int.from_bytes(salt.ljust(14, b"\0"), "big") ^ (label << 48)
    return keystream(master, x << 16, length)


def header_bytes(packet: bytes) -> int:
    """Octets before the payload."""
    length = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        length += 4 + 4 * int.from_bytes(packet[length + 2 : length + 4], "big")
    return length


@dataclass(kw_only=True)
class SrtpSender:
    """One master key's protection of RTP and RTCP."""

    suite: str
    master: bytes = b""
    mki: bytes = b""

    def __post_init__(self) -> None:
        """Derive the session keys."""
        key_bytes, salt_bytes, self._tag_bytes = SUITES[self.suite]
        self.master = self.master or secrets.token_bytes(key_bytes + salt_bytes)
        assert len(self.master) == key_bytes + salt_bytes
        key, salt = self.master[:key_bytes], self.master[key_bytes:]
        self._gcm = "GCM" in self.suite
        lengths = (key_bytes, 20, salt_bytes)
        self.rtp_keys = [derive(key, salt, label, n) for label, n in zip(RTP_LABELS, lengths, strict=True)]
        self.rtcp_keys = [derive(key, salt, label, n) for label, n in zip(RTCP_LABELS, lengths, strict=True)]

    def crypto(self, *, tag: int = 1, name: str = "") -> str:
        """The a=crypto line, without a=crypto:."""
        mki = f"|{int.from_bytes(self.mki, 'big')}:{len(self.mki)}" if self.mki else ""
        return f"{tag} {name or self.suite} inline:{base64.b64encode(self.master).decode()}{mki}"

    def rtp(self, packet: bytes, *, roc: int) -> bytes:
        """Protect an RTP packet whose sequence number has wrapped ``roc`` times."""
        key, auth, salt = self.rtp_keys
        at = header_bytes(packet)
        head, body = packet[:at], packet[at:]
        ssrc, sequence = packet[8:12], packet[2:4]
        if self._gcm:
            iv = _xor(salt, b"\0\0" + ssrc + roc.to_bytes(4, "big") + sequence)
            return head + AESGCM(key).encrypt(iv, body, head) + self.mki
        index = (roc << 16) | int.from_bytes(sequence, "big")
        cipher = _xor(body, keystream(key, _cm_iv(salt, ssrc, index), len(body)))
        tag = hmac.new(auth, head + cipher + roc.to_bytes(4, "big"), hashlib.sha1).digest()
        return head + cipher + self.mki + tag[: self._tag_bytes]

    def rtcp(self, packet: bytes, *, index: int) -> bytes:
        """Protect an RTCP compound."""
        key, auth, salt = self.rtcp_keys
        head, body, ssrc = packet[:8], packet[8:], packet[4:8]
        word = (0x8000_0000 | index).to_bytes(4, "big")  # E: encrypted
        if self._gcm:
            iv = _xor(salt, b"\0\0" + ssrc + b"\0\0" + index.to_bytes(4, "big"))
            return head + AESGCM(key).encrypt(iv, body, head + word) + word + self.mki
        cipher = _xor(body, keystream(key, _cm_iv(salt, ssrc, index), len(body)))
        tag = hmac.new(auth, head + cipher + word, hashlib.sha1).digest()
        return head + cipher + word + self.mki + tag[:10]


@dataclass(kw_only=True)
class SrtpStream(RtpStream):
    """A stream of ``rtp_sender`` whose packets leave protected; it counts its own wrap-arounds."""

    sender: SrtpSender = field(default_factory=lambda: SrtpSender(suite="AES_CM_128_HMAC_SHA1_80"))

    def packet(self, number: int) -> bytes:
        """Build one packet."""
        return self.sender.rtp(super().packet(number), roc=(self.first_sequence + number) >> 16)


def _cm_iv(salt: bytes, ssrc: bytes, index: int) -> int:
    return (int.from_bytes(salt, "big") << 16) ^ (int.from_bytes(ssrc, "big") << 64) ^ (index << 16)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
