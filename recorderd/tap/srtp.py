"""SRTP and SRTCP: what comes is verified and decrypted, what we send is protected (libsrtp).

Contract: only this file knows libsrtp. A packet leaves ``Unprotector`` as plain RTP or not at all; nothing
that failed is ever returned. Each packet is looked at singly: the library has no call for many.
Thread: one object, one thread.
Source: RFC 3711; RFC 6188 (AES-256); RFC 7714 (GCM); place of the MKI: RFC 3711 3.1, RFC 7714 8.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pylibsrtp
from pylibsrtp import _binding  # suites and packet sizes that the package itself does not offer

from dsp.shapes import BOOL, I64, U8
from recorderd.core.errors import SrtpFailed
from recorderd.wire.sdes import SrtpKeys, Suite

REPLAY_WINDOW_PACKETS: Final = 1024  # more than the tap would place: two seconds at a ptime of 10 ms are 200
OLD_KEY_PACKETS: Final = 250  # how long the key before is still tried; five seconds at a ptime of 20 ms
SSRCS_MAX: Final = 64  # of one stream; a phone call has one or two
WRAPS_MAX: Final = 100  # that a new key may go on from: a day and a half at a ptime of 20 ms
ADVANCES_MAX: Final = 8  # tries per new key: each costs some hundred packets' work
SEARCHES_MAX: Final = 250  # packets after a restart; what somebody forges must not use up all of them
_STEP: Final = 0x4000  # how far a sequence number may jump and still be told from a wrap-around, and more
_PACKET_MAX_BYTES: Final = 4096
_TRAILER_MAX_BYTES: Final = 148  # of SRTCP: index, tag and MKI
_TAG_BYTES: Final = {"80": 10, "32": 4}
_PROFILES: Final = {
    Suite.AES_CM_128_HMAC_SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    Suite.AES_CM_128_HMAC_SHA1_32: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    Suite.AES_256_CM_HMAC_SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    Suite.AES_256_CM_HMAC_SHA1_32: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    Suite.AEAD_AES_128_GCM: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    Suite.AEAD_AES_256_GCM: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
_AES_CM_256: Final = (Suite.AES_256_CM_HMAC_SHA1_80, Suite.AES_256_CM_HMAC_SHA1_32)
# srtp_crypto_policy_t of libsrtp 2: cipher, octets of key and salt, authentication, its key, tag, services.
_POLICY_WORDS: Final = 6
_AES_ICM_128: Final = (1, 30)
_AES_ICM_256: Final = (5, 46)
_REASONS: Final = {7: "authentication failed", 9: "it came before", 10: "it is too old to tell"}


class _Context:
    """A libsrtp session that takes any SSRC, with room for every packet that the tap takes."""

    def __init__(self, keys: SrtpKeys, *, inbound: bool) -> None:
        try:
            policy = pylibsrtp.Policy(
                key=keys.master,
                ssrc_type=(
                    pylibsrtp.Policy.SSRC_ANY_INBOUND if inbound else pylibsrtp.Policy.SSRC_ANY_OUTBOUND
                ),
                srtp_profile=_PROFILES[keys.suite],
            )
            policy.window_size = REPLAY_WINDOW_PACKETS
            if keys.suite in _AES_CM_256:
                for part in (policy._policy.rtp, policy._policy.rtcp):
                    _use_aes_256(part)
            self._session = pylibsrtp.Session(policy)
        except (pylibsrtp.Error, ValueError):
            raise SrtpFailed(reason=f"libsrtp cannot do {keys.suite.value}") from None
        self._buffer = _binding.ffi.new("char[]", _PACKET_MAX_BYTES + _TRAILER_MAX_BYTES)
        self._length = _binding.ffi.new("int *")

    def apply(self, step: Any, packet: bytes) -> bytes:
        """Run one of the library's four operations.

        Errors: SrtpFailed.
        """
        if len(packet) > _PACKET_MAX_BYTES:
            raise SrtpFailed(reason=f"{len(packet)} octets are too many")
        _binding.ffi.memmove(self._buffer, packet, len(packet))
        self._length[0] = len(packet)
        status = step(self._session._srtp[0], self._buffer, self._length)
        if status != 0:
            raise SrtpFailed(reason=_REASONS.get(status, f"libsrtp says {status}"))
        return bytes(_binding.ffi.buffer(self._buffer, self._length[0]))


class Unprotector:
    """What one key verifies and decrypts; remembers what came, so that nothing comes twice."""

    def __init__(self, keys: SrtpKeys) -> None:
        self.keys = keys
        self._context = _Context(keys, inbound=True)
        gcm = keys.suite in (Suite.AEAD_AES_128_GCM, Suite.AEAD_AES_256_GCM)
        self._tag_bytes = 0 if gcm else _TAG_BYTES[keys.suite.value[-2:]]  # GCM's stands before the MKI
        self._rtcp_tag_bytes = 0 if gcm else 10  # RFC 3711 section 5.2: never shortened

    def rtp(self, datagram: bytes) -> bytes:
        """Verify and decrypt one SRTP packet.

        Errors: SrtpFailed when it is not authentic, came before, or is no SRTP.
        """
        plain = self._without_mki(datagram, self._tag_bytes)
        return self._context.apply(_binding.lib.srtp_unprotect, plain)

    def rtcp(self, datagram: bytes) -> bytes:
        """Verify and decrypt one SRTCP packet.

        Errors: as ``rtp``.
        """
        plain = self._without_mki(datagram, self._rtcp_tag_bytes)
        return self._context.apply(_binding.lib.srtp_unprotect_rtcp, plain)

    def advance(self, *, ssrc: int, index: int) -> None:
        """Move to where a sender that did not begin at zero will go on, before anything has come.

        The library has no call for it that the package passes on, so it is shown packets of our own making;
        they end well before ``index``, so that none of the sender's is taken for a copy of ours.
        """
        sender = Protector(replace(self.keys, mki=b""))
        last = index - 2 * REPLAY_WINDOW_PACKETS
        for number in range(last % _STEP, last + 1, _STEP):
            packet = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, 0, ssrc)
            self._context.apply(_binding.lib.srtp_unprotect, sender.rtp(packet))

    def _without_mki(self, datagram: bytes, tag_bytes: int) -> bytes:
        mki = self.keys.mki
        if not mki:
            return datagram
        end = len(datagram) - tag_bytes
        start = end - len(mki)
        if start < 0 or datagram[start:end] != mki:
            raise SrtpFailed(reason="its key is named differently (MKI)")
        return datagram[:start] + datagram[end:]


class Protector:
    """What one key protects: the RTP that we send, with one SSRC or several."""

    def __init__(self, keys: SrtpKeys) -> None:
        self.keys = keys
        self._context = _Context(keys, inbound=False)

    def rtp(self, packet: bytes) -> bytes:
        """Encrypt and authenticate one RTP packet.

        Errors: SrtpFailed, also for a sequence number that was used before.
        """
        return self._context.apply(_binding.lib.srtp_protect, packet)


class StreamCrypto:
    """The keys of one stream: the one in force, and for a while the one before it.

    A sender goes on with its old key until our answer to its new one is there. With the new one it counts
    wrap-arounds of the sequence number from zero (as libsrtp does), or goes on counting (RFC 3711 section
    3.3.1): both are tried.
    """

    def __init__(self, keys: SrtpKeys) -> None:
        self._now = Unprotector(keys)
        self._before: Unprotector | None = None
        self._before_left = self._tries_left = 0
        self._indices: dict[int, int] = {}  # by SSRC: sequence number of its furthest packet, extended
        self._left_off: dict[int, int] = {}  # the same, as another process knew it
        self._wraps_most = self._searches_left = 0

    @property
    def keys(self) -> SrtpKeys:
        """The keys in force."""
        return self._now.keys

    def go_on(self, *, ssrc: int, index: int, wraps_most: int) -> None:
        """Go on where an earlier process was: the furthest packet's number, counted on over wrap-arounds.

        The sender may have counted these otherwise: from zero since its last key, or on over a jump or over
        packets of another SSRC. What nothing has come of here may have wrapped around ``wraps_most`` times.
        """
        self._left_off = {ssrc: index}
        self._wraps_most, self._searches_left = min(wraps_most, WRAPS_MAX), SEARCHES_MAX

    def rekey(self, keys: SrtpKeys) -> None:
        """Use other keys; the same ones change nothing, and the memory of what came stays.

        Errors: SrtpFailed; then all stays as it was.
        """
        if keys == self._now.keys:
            return
        if self._before is not None and keys == self._before.keys:
            self._now, self._before = self._before, self._now
        else:
            self._now, self._before = Unprotector(keys), self._now
        self._before_left, self._tries_left, self._searches_left = OLD_KEY_PACKETS, ADVANCES_MAX, 0

    def rtp(self, datagram: bytes) -> bytes:
        """Verify and decrypt one SRTP packet.

        Errors: SrtpFailed.
        """
        try:
            plain = self._now.rtp(datagram)
        except SrtpFailed:
            if self._is_found(datagram):
                plain = self._now.rtp(datagram)
            elif self._before is None:
                raise
            else:
                return self._rtp_after_rekey(datagram, self._before)
        if self._before is not None:
            self._before_left -= 1
            if self._before_left <= 0:
                self._before = None
        self._count(plain)
        return plain

    def _is_found(self, datagram: bytes) -> bool:
        """Find how often a sender has wrapped around that another process has heard, and move there."""
        ssrc, number = int.from_bytes(datagram[8:12], "big"), int.from_bytes(datagram[2:4], "big")
        if self._searches_left <= 0 or ssrc in self._indices:
            return False
        self._searches_left -= 1
        near = _extended(number, near=self._left_off.get(ssrc, number)) >> 16
        for wraps in dict.fromkeys([near, *range(1, self._wraps_most + 1)]):
            index = wraps << 16 | number
            tried = Unprotector(self._now.keys)
            tried.advance(ssrc=ssrc, index=index)
            with contextlib.suppress(SrtpFailed):
                tried.rtp(datagram)
                self._now.advance(ssrc=ssrc, index=index)
                self._indices[ssrc] = index
                return True
        return False

    def _rtp_after_rekey(self, datagram: bytes, before: Unprotector) -> bytes:
        try:
            plain = before.rtp(datagram)
        except SrtpFailed:
            index = self._index(datagram)
            in_use = self._before_left < OLD_KEY_PACKETS
            if in_use or self._tries_left <= 0 or not 0 < index >> 16 <= WRAPS_MAX:
                raise
            self._tries_left -= 1
            advanced = Unprotector(self._now.keys)
            advanced.advance(ssrc=int.from_bytes(datagram[8:12], "big"), index=index)
            plain = advanced.rtp(datagram)
            self._now, self._before_left = advanced, OLD_KEY_PACKETS - 1
        self._count(plain)
        return plain

    def _index(self, packet: bytes) -> int:
        """Extend a packet's sequence number by what came of its SSRC before; 0 = nothing came."""
        ssrc = int.from_bytes(packet[8:12], "big")
        known = self._indices.get(ssrc, self._left_off.get(ssrc))
        if known is None:
            return 0
        return _extended(int.from_bytes(packet[2:4], "big"), near=known)

    def _count(self, plain: bytes) -> None:
        ssrc = int.from_bytes(plain[8:12], "big")
        if ssrc in self._indices:
            self._indices[ssrc] = max(self._indices[ssrc], self._index(plain))
        elif len(self._indices) < SSRCS_MAX:
            self._indices[ssrc] = int.from_bytes(plain[2:4], "big")

    def rtcp(self, datagram: bytes) -> bytes:
        """Verify and decrypt one SRTCP packet.

        Errors: SrtpFailed.
        """
        try:
            return self._now.rtcp(datagram)
        except SrtpFailed:
            if self._before is None:
                raise
            return self._before.rtcp(datagram)

    def rows(self, rows: U8, lengths: I64) -> tuple[BOOL, str]:
        """Put plain RTP in the place of each SRTP packet; say which failed, and why the last of them did.

        A row that failed gets length 0. Rows of length 0 were too long for their row.
        Shapes: rows (n, row_octets), lengths (n,), both changed in place -> (n,) bool.
        """
        failed = np.zeros(lengths.size, dtype=np.bool_)
        reason = ""
        for number in range(lengths.size):  # one packet at a time: see the contract above
            length = int(lengths[number])
            try:
                plain = self.rtp(rows[number, :length].tobytes())
            except SrtpFailed as problem:
                failed[number], reason = True, str(problem.fields["reason"])
                lengths[number] = 0
                continue
            rows[number, : len(plain)] = np.frombuffer(plain, dtype=np.uint8)
            lengths[number] = len(plain)
        return failed, reason


def _extended(number: int, *, near: int) -> int:
    """Extend a sequence number to the value closest to another; none is below zero."""
    return max(near + (number - near + 0x8000) % 0x1_0000 - 0x8000, 0)


def _use_aes_256(part: Any) -> None:
    """Turn a policy for AES-128 counter mode into one for AES-256.

    The library has a function for it that the package does not pass on; the six words are its documented
    structure, and anything else found there is refused.
    """
    ffi = _binding.ffi
    words = ffi.cast("int *", ffi.addressof(part))
    if ffi.sizeof(ffi.typeof(part)) != 4 * _POLICY_WORDS or (words[0], words[1]) != _AES_ICM_128:
        raise ValueError("another libsrtp")
    words[0], words[1] = _AES_ICM_256
