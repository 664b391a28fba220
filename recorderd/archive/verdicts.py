"""What is checked of a recording, what of it was read, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from recorderd.wire.manifest import Manifest
from recorderd.wire.recording_index import RecordingIndex


class Verdict(StrEnum):
    """What came of a check."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "cannot tell"


class Check(StrEnum):
    """What is checked."""

    FILES = "files"  # those that must be there are, and no others
    READABLE = "unreadable"  # each could be read
    MANIFEST = "manifest"  # its form, its arithmetic, whose it is
    DIGEST = "digest"  # of every file that the manifest names
    SIGNATURE = "signature"
    CERTIFICATE = "certificate"  # fit to sign, and valid when it did
    SIGNER = "signer_unknown"  # whether anybody vouches for whoever signed
    TIMESTAMP = "timestamp"  # of an authority, when there is one
    RENDERING = "rendering"  # the XML says what the manifest says, when there is one
    WAV = "wav"  # the header against the file and the manifest
    PROOF = "proof"  # the audio's Merkle tree, when the manifest tells of one
    GAPS = "gaps"  # audio and gaps make up the length
    CLOCK = "clock"  # signed after it ended
    CHAIN = "chain"  # its place among the others; see ``lineage``
    INDEX = "index"  # what stands in clear beside an encrypted manifest, against that
    ENCRYPTED = "encrypted"  # what nobody can tell without a recipient's key


# These say that what was signed is odd, or when; without any other a recording is not what was signed.
ODD: Final = frozenset({Check.WAV, Check.PROOF, Check.GAPS, Check.CLOCK, Check.TIMESTAMP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not hold; ``code`` is a word for programs."""

    code: Check
    reason: str
    verdict: Verdict = Verdict.BAD


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTree:
    """The Merkle tree over a WAV's data, one leaf per second."""

    leaf_samples: int
    leaves: int
    root_sha256: str
    frame_bytes: int = field(compare=False, default=0)  # of one sample of all channels
    leaf_hashes: bytes = field(compare=False, repr=False, default=b"")  # of whole leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One recording's files as they were read once; all checks use the same octets."""

    sha256s: Mapping[str, str]  # of every file
    sizes_bytes: Mapping[str, int]
    contents: Mapping[str, bytes]  # of the manifest and whatever lies beside in small files
    audio_head: bytes = field(repr=False, default=b"")
    audio_tree: AudioTree | None = None  # over the data of a WAV
    irregular: tuple[str, ...] = ()  # names that are no regular files
    unreadable: Mapping[str, str] = field(default_factory=dict)  # name -> why


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleVerdict:
    """What came out; ``manifest`` is there once it could be read, whether or not the rest holds."""

    recording_id: str
    manifest: Manifest | None
    manifest_sha256: str
    sha256s: dict[str, str]  # of every file, as it stands
    size_bytes: int
    signers: tuple[str, ...]
    findings: tuple[Finding, ...]
    signed_utc_s: int | None = None  # when the manifest was signed, by its signer's clock
    checked: frozenset[Check] = frozenset()  # what could be checked at all
    index: RecordingIndex | None = None  # of a recording whose manifest is encrypted

    @property
    def good(self) -> bool:
        """Tell whether everything holds."""
        return self.manifest is not None and not self.findings

    @property
    def verdict(self) -> Verdict:
        """The worst of all checks."""
        if any(finding.verdict is Verdict.BAD for finding in self.findings):
            return Verdict.BAD
        return Verdict.GOOD if self.good else Verdict.UNKNOWN

    @property
    def stated(self) -> Manifest | RecordingIndex | None:
        """What the recording says of itself, as far as it can be read here."""
        return self.manifest or self.index

    @property
    def troubles(self) -> tuple[Finding, ...]:
        """What is wrong; that something is encrypted is not."""
        return tuple(finding for finding in self.findings if finding.code is not Check.ENCRYPTED)

    def by_check(self) -> dict[Check, Verdict]:
        """Give the verdict of each check that was made."""
        verdicts = dict.fromkeys(sorted(self.checked, key=list(Check).index), Verdict.GOOD)
        for finding in self.findings:
            if verdicts.get(finding.code) is not Verdict.BAD:
                verdicts[finding.code] = finding.verdict
        return verdicts
