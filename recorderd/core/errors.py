"""The error catalogue: each error says what happened, whose fault, whether to retry, and what to do.

Rule: the docstring of an error is its message; its fields are the keyword arguments. Exit codes follow
sysexits(3): 65 bad input, 69 a part is missing, 74 I/O, 75 try again, 78 configuration.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class RecorderError(Exception):
    """Something went wrong: {reason}."""

    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = ""

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        template = inspect.cleandoc(type(self).__doc__ or "").split("\n\n", maxsplit=1)[0]
        super().__init__(template.format(**fields))


# --- the other side's fault: bytes that do not mean what they should -------------------------------


class FormatError(RecorderError):
    """Malformed {what}: {field}: {reason}."""

    exit_code = 65


class RtpFormatError(FormatError):
    """Malformed RTP packet: {field}: {reason}."""


class RtcpFormatError(FormatError):
    """Malformed RTCP packet: {field}: {reason}."""


class PayloadFormatError(FormatError):
    """Malformed RTP payload: {field}: {reason}."""


class SrtpFailed(RecorderError):
    """SRTP packet or key refused: {reason}."""

    exit_code = 65


class SdpFormatError(FormatError):
    """Malformed SDP: {field}: {reason}."""


class SipFormatError(FormatError):
    """Malformed SIP message: {field}: {reason}."""


class MetadataFormatError(FormatError):
    """Malformed recording metadata: {field}: {reason}."""


class ManifestFormatError(FormatError):
    """Malformed manifest: {field}: {reason}."""


class IndexFormatError(FormatError):
    """Malformed index: {field}: {reason}."""


class ReceiptFormatError(FormatError):
    """Malformed receipt: {field}: {reason}."""


class HeadFormatError(FormatError):
    """Malformed chain head: {field}: {reason}."""


class TombstoneFormatError(FormatError):
    """Malformed tombstone: {field}: {reason}."""


class TermsFormatError(FormatError):
    """Malformed retention terms: {field}: {reason}."""


class AuditHeadFormatError(FormatError):
    """Malformed head of the audit log: {field}: {reason}."""


class WavFormatError(FormatError):
    """Malformed WAV: {field}: {reason}."""


class CheckpointFormatError(FormatError):
    """Malformed checkpoint: {field}: {reason}."""


class TimeFormatError(FormatError):
    """Malformed statement about the clock: {field}: {reason}."""


class StampFormatError(FormatError):
    """Malformed batch or proof of time stamps: {field}: {reason}."""


class EnrolmentFormatError(FormatError):
    """Malformed {what} of an enrolment: {field}: {reason}."""


class FrameFormatError(FormatError):
    """Malformed flush message: {field}: {reason}."""


class UpsFormatError(FormatError):
    """Malformed answer about a UPS: {field}: {reason}."""


# --- evidence: fails closed -------------------------------------------------------------------------


class EvidenceError(RecorderError):
    """Evidence does not hold for {subject}: {reason}."""

    exit_code = 65


class DigestMismatch(EvidenceError):
    """Digest of {subject} is {actual}, the manifest says {expected}."""


class SignatureInvalid(EvidenceError):
    """Signature over {subject} is not valid: {reason}."""

    hint = "Keep the files as they are; compare them with another copy and look at the access log."


class CertificateUnfit(SignatureInvalid):
    """Signature over {subject} counts for nothing: {reason}."""

    hint = "The certificate was renewed too late, or somebody signed with one that had no right to."


class SignerUnknown(EvidenceError):
    """Signature over {subject} is by {signer}, whom nothing configured here vouches for."""

    hint = "If the recorder's certificate was renewed, add the new one to the trusted certificates."


class ProofBroken(RecorderError):
    """The audio is not what was signed while the call went on: {reason}."""

    exit_code = 65
    hint = "Somebody or something has changed the draft after it was written; look at it in the quarantine."


class TimestampInvalid(EvidenceError):
    """Time stamp over {subject} is not valid: {reason}."""

    hint = "Keep the files as they are; a signature without its stamp still holds by itself."


class AuthorityUnknown(EvidenceError):
    """Time stamp over {subject} is by {authority}, which nothing configured here vouches for."""

    hint = "Name the authority's root certificate where time stamps are configured."


class AuthorityRefused(RecorderError):
    """The time stamping authority {url} gave no stamp: {reason}."""

    exit_code, retryable = 75, True
    hint = "Recordings go on without it; their hashes wait for the next stamp."


class KeyUnusable(RecorderError):
    """Key {path} cannot be used: {reason}."""

    exit_code = 78
    hint = "The key file must be readable by its owner only (chmod 600) and match the certificate."


class SecretUnusable(KeyUnusable):
    """Secret {path} cannot be used: {reason}."""

    hint = "The file must be there and be readable by this program's user only (chmod 600)."


class CredentialMissing(KeyUnusable):
    """Credential {path} cannot be used: {reason}."""

    hint = "`credential:NAME` is for a systemd unit with LoadCredential=NAME; elsewhere name the file itself."


class CertificateUnreadable(KeyUnusable):
    """Certificates {path} cannot be used: {reason}."""

    hint = "Name a file that is there, can be read, and has certificates in PEM."


class KeyUnavailable(KeyUnusable):
    """Key {path} cannot be used now: {reason}."""

    exit_code, retryable = 75, True
    hint = "Plug the token in, set the clock, or renew the certificate; what waits to be signed is kept."


class CertificateRefused(RecorderError):
    """Certificate {path} is not taken: {reason}."""

    exit_code = 65
    hint = "Nothing was changed. Ask the authority for a certificate of the request that `keys csr` gives."


class KeyringRefused(RecorderError):
    """Keys in {path}: {reason}."""

    exit_code = 65
    hint = "Nothing was changed; `recorderctl keys show` tells what is there."


class RecipientUnusable(RecorderError):
    """Recipient {path} cannot be encrypted to: {reason}."""

    exit_code = 78
    hint = "Name a file with one certificate (PEM) or one OpenPGP public key that is made for encryption."


class RecipientExpired(RecipientUnusable):
    """Recipient {path} has ended: {reason}."""


class EncryptionFailed(RecorderError):
    """{subject} could not be encrypted: {reason}."""

    exit_code = 74


class EnvelopeUnopened(EvidenceError):
    """{subject} does not open: {reason}."""

    hint = (
        "Take the private key of a recipient it was encrypted to; if that was the one, the file is altered."
    )


# --- our side ---------------------------------------------------------------------------------------


class ConfigurationError(RecorderError):
    """Configuration {path} has {count} problem(s):
    {problems}"""

    exit_code = 78
    hint = "Mend the keys named above and try again; `check-config` shows the same without starting."


class NotConfigured(ConfigurationError):
    """Configuration {path} has no {what}: {remedy}."""

    hint = "What is asked for is done only where archive.toml says how."


class Pjsua2Unfit(RecorderError):
    """The installed pjsua2 would drop calls: {problems}."""

    exit_code = 69
    hint = "Build the right one with `make pjsua2` and install it with `make install`."


class SpoolBroken(RecorderError):
    """Spool entry {path} is not what it should be: {reason}."""

    exit_code = 74


class NoPortFree(RecorderError):
    """No free RTP port pair between {port_min} and {port_max}."""

    exit_code, retryable = 75, True
    hint = "Widen rtp.port_min and rtp.port_max: each stream takes two ports."


class RingFull(RecorderError):
    """The ring has no room for another stream: {streams} streams are open."""

    exit_code, retryable = 75, True
    hint = "Raise rtp.max_streams."


class SpeakerFull(RecorderError):
    """The speaker has no room for another announcement: {utterances} are waiting."""

    exit_code, retryable = 75, True


class ProgramFailed(RecorderError):
    """{program} gave no answer: {reason}."""

    exit_code, retryable = 69, True


class UpsSilent(RecorderError):
    """Nothing is known of the UPS: {reason}."""

    exit_code, retryable = 75, True
    hint = "Is the UPS's cable in, does its driver run, and may this machine ask the server?"


class PutOff(RecorderError):
    """{work} is put off: {reason}."""

    exit_code, retryable = 75, True
    hint = "It goes on when power is back; run it again then."


class DraftFailed(RecorderError):
    """Draft {path} could not be written: {reason}."""

    exit_code = 74


class TailUnreadable(RecorderError):
    """The tail that an earlier process has left cannot be read: {reason}."""

    exit_code = 65


class NotPublished(DraftFailed):
    """{path} is sealed and stands in the chain, but could not be moved into the spool's ready: {reason}."""

    exit_code, retryable = 74, True
    hint = "It is tried again once a second; free some space, or look at the disk."


class PortTaken(RecorderError):
    """Cannot listen on {address}: {reason}."""

    exit_code = 69
    hint = "Another program holds this address, or it is not an address of this machine."


class ControlUnavailable(RecorderError):
    """No answer on the control socket {path}: {reason}."""

    exit_code, retryable = 69, True
    hint = "Is the daemon running, and may you read its run directory?"


class StoreBroken(RecorderError):
    """Archive entry {path} is not what it should be: {reason}."""

    exit_code = 74


class CatalogueFailed(RecorderError):
    """The catalogue {path} cannot be read or written: {reason}."""

    exit_code, retryable = 74, True
    hint = "Look at the disk's space and rights; the recordings wait at their recorders meanwhile."


class RecordingUnknown(RecorderError):
    """The archive holds no recording {recording_id}."""

    exit_code = 65
    hint = "`recorder-archive list` names those it holds."


class CatalogueLost(RecorderError):
    """The catalogue is empty, but the store holds {path}."""

    exit_code = 78
    hint = "Is [catalogue] right? `recorder-archive reindex` makes the catalogue anew from the store."


class ArchiveServed(RecorderError):
    """{path} is served already, and {name} may not beside it."""

    exit_code = 75
    hint = "Several front ends need [archive] front_end, each a name of its own; one without it is alone."


class StoreForeign(RecorderError):
    """{path} is not the store of this catalogue: it has {found}, wanted is {wanted}."""

    exit_code = 78
    hint = "Is its file system mounted? If this is the right one, write what is wanted into its store-mark."


class RecorderUnknown(RecorderError):
    """This archive knows no recorder {recorder_id}."""

    exit_code = 65
    hint = "`recorder-archive recorder list` names those it knows."


class EnrolmentRefused(RecorderError):
    """{archive} does not take the code: {reason}."""

    exit_code = 77
    hint = "A code counts once and for a limited time: make a new one with `recorder-archive enroll`."


class AccountUnknown(RecorderError):
    """There is no account {account}."""

    exit_code = 65
    hint = "`recorder-archive account list` names those there are."


class AccountRefused(RecorderError):
    """Account {account}: {reason}."""


class CallRecordsUnreadable(RecorderError):
    """The call records in {path} cannot be read: {reason}."""

    exit_code = 65
    hint = "`[call_records]` in archive.toml says which column holds what; config/README.md tells how."


class SearchRefused(RecorderError):
    """The search cannot be understood: {field} {reason}."""

    exit_code = 65
    hint = "`recorder-archive search --help` tells what can be searched for."


class SearchTooWide(RecorderError):
    """The search found no end within {limit_s} s."""

    exit_code = 75
    hint = "Give a range of dates, or more of the number."


class AnnotationRefused(RecorderError):
    """This {what} cannot be added: {reason}."""

    exit_code = 65


class PasswordUnfit(RecorderError):
    """This password is not taken: {reason}."""

    exit_code = 65


class SignInRefused(RecorderError):
    """Not let in: {reason}."""

    exit_code = 77


class CodeWanted(SignInRefused):
    """Not let in: {reason}."""


class SignInLocked(SignInRefused):
    """Not let in for {wait_s} s: {reason}."""


class ShareUnknown(RecorderError):
    """There is no share link {share}."""

    exit_code = 65


class ShareRefused(RecorderError):
    """Share link: {reason}."""

    exit_code = 65


class AudioUnplayable(RecorderError):
    """The audio of {recording} cannot be played: {reason}."""

    exit_code = 65
    hint = "Download the files: what is encrypted is opened by its recipients, with `recorderctl open`."


class WebhookFailed(RecorderError):
    """The webhook {url} does not take what it is told: {reason}."""

    exit_code, retryable = 69, True
    hint = "What it has missed is told when it answers again."


class ProviderFailed(RecorderError):
    """The OpenID provider {issuer} cannot be used: {reason}."""

    exit_code, retryable = 69, True


class AuditExportFailed(RecorderError):
    """The audit log cannot be sent to {target}: {reason}."""

    exit_code, retryable = 69, True
    hint = "Rows wait in the catalogue and are sent when the server is back."


class AlreadyRunning(RecorderError):
    """Another process holds {path}."""

    exit_code = 75
    hint = "Two programs must not work on one folder; stop the other one first."


class JobUnderWay(RecorderError):
    """Job {number} does that already ({work})."""

    exit_code, retryable = 75, True
    hint = "Wait for its end, or stop it."


class JobStopped(RecorderError):
    """The job was stopped before its end."""

    exit_code = 75


class ExportBlocked(RecorderError):
    """{path} is there already and holds something else."""

    exit_code = 73
    hint = "Export into another folder; nothing is overwritten."


class ListeningImpossible(RecorderError):
    """No listening copy of {recording_id}: {reason}."""

    exit_code = 65
    hint = "The evidence itself was exported."


class NotContinued(RecorderError):
    """{session} does not go on: {reason}."""

    exit_code = 75
    hint = "What was written of it is sealed as recovered."


# --- retention, holds, erasure ----------------------------------------------------------------------


class ErasureRefused(RecorderError):
    """Recording {recording_id} stays as it is: it {reason}."""

    exit_code = 65
    hint = "`recorder-archive retention show ID` tells until when, `hold list` what holds it."


class HoldRefused(RecorderError):
    """Hold {number} was not changed: {reason}."""

    exit_code = 65
    hint = "`recorder-archive hold list --all` shows every hold that there ever was."


class SelectionEmpty(RecorderError):
    """No recording was named: {reason}."""

    exit_code = 64
    hint = "Give an id, a number, an extension or another condition; nothing means nothing, never everything."


class BundleBlocked(RecorderError):
    """{path} is there already and is not empty."""

    exit_code = 73
    hint = "Name a folder that does not exist yet; nothing is overwritten."
