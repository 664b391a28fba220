"""The signer that recorderd uses: opened by the configuration, watched, changed while it runs.

Contract: what is wrong with the configuration or a key ends the start. What may pass (a token that is away,
a clock that is not set, a certificate that has expired) does not: calls are recorded, their drafts wait, and
the key is tried again. A PIN that was refused is not. ``look`` returns at once; the work is done on the
sealing thread, where a slow token keeps nobody's audio from the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from recorderd.app.keyring import KEY_NAME, Keyring
from recorderd.app.recorder_configuration import EvidenceSection
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import KeyUnavailable, KeyUnusable, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.certificates import CertificateFacts, describe_certificate
from recorderd.evidence.keys import Signer, resolve_secret

RETRY_NS: Final = 2 * NS_PER_S
EXPIRY_LOOK_NS: Final = 12 * 3600 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where the configured key and its certificate are."""

    certificate_file: Path
    key_file: Path | None = None
    uri: str = ""

    def open(self) -> Signer:
        """Open it.

        Errors: KeyUnusable; KeyUnavailable when it may be usable later.
        """
        if self.uri or self.key_file is None:
            return Signer.from_token(uri=self.uri, certificate_file=self.certificate_file)
        return Signer.from_files(
            key_file=resolve_secret(self.key_file), certificate_file=self.certificate_file
        )


def key_source(evidence: EvidenceSection) -> KeySource:
    """Find the key that is to sign now.

    Errors: KeyUnusable when there is none.
    """
    if evidence.keys_dir is not None:
        current = Keyring(evidence.keys_dir).current()
        if current is None:
            reason = "holds no key that is ready to sign; `recorderctl keys init` makes one"
            raise KeyUnusable(path=evidence.keys_dir, reason=reason)
        key_file = None if current.uri else current.folder / KEY_NAME
        return KeySource(certificate_file=current.certificate_file, key_file=key_file, uri=current.uri)
    if evidence.certificate_file is None:
        raise KeyUnusable(path="evidence", reason="no certificate is configured")
    return KeySource(certificate_file=evidence.certificate_file, key_file=evidence.key_file, uri=evidence.key)


class KeyWatch:
    """The key in use: whether it can sign, how long yet, and what to do when that changes.

    Thread: ``look`` and ``describe`` any one; ``work`` the sealing thread.
    """

    def __init__(self, evidence: EvidenceSection, *, clock: Clock, log: EventLog) -> None:
        self._evidence = evidence
        self._clock = clock
        self._log = log
        self._facts: CertificateFacts | None = None
        self._problem = ""
        self._hopeless = False  # trying again by itself would do harm
        self._next_try_ns = self._next_expiry_ns = 0
        self._busy = self._reload = False
        self.signer: Signer | None = None

    def open_first(self) -> Signer | None:
        """Open the key at start; none when it is only away.

        Errors: KeyUnusable: the start must fail.
        """
        try:
            self._open()
        except KeyUnavailable as problem:
            self._failed(problem)
        return self.signer

    def look(
        self,
        *,
        reload: bool,
        waiting: int,
        then: Callable[[Callable[[], None]], None],
        work: Callable[[Signer], None],
    ) -> None:
        """See what is due while so many recordings are ``waiting`` for the key.

        ``then`` takes a job for the sealing thread; ``work`` is done there, with a key that signs.
        """
        now_ns = self._clock.mono_ns()
        if now_ns >= self._next_expiry_ns:
            self._next_expiry_ns = now_ns + EXPIRY_LOOK_NS
            self._warn_of_expiry()
        self._reload |= reload
        due = (waiting or self.signer is None) and not self._hopeless and now_ns >= self._next_try_ns
        if (self._reload or due) and not self._busy:
            reload, self._reload = self._reload, False
            self._busy, self._next_try_ns = True, now_ns + RETRY_NS
            then(lambda: self._try(reload=reload, work=work))

    def describe(self) -> dict[str, Any]:
        """Tell how signing stands."""
        facts = self._facts
        told: dict[str, Any] = {"usable": not self._problem, "problem": self._problem, "certificate": None}
        if facts is not None:
            told["certificate"] = {
                "subject": facts.subject,
                "kind": facts.kind,
                "sha256": facts.sha256,
                "key_sha256": facts.key_sha256,
                "valid_to": f"{facts.valid_to:%Y-%m-%dT%H:%M:%SZ}",
                "days_left": facts.days_left(self._now()),
                "expires_soon": self._expires_soon(facts),
            }
        return told

    def _try(self, *, reload: bool, work: Callable[[Signer], None]) -> None:
        """Open the key if need be, see that it signs, and seal what waits; never raises.

        Thread: sealing.
        """
        try:
            if reload:
                self._reopen()
            signer = self.signer or self._open()
            signer.sign_digest("00" * 32, signing_time_utc_s=self._clock.utc_ns() // NS_PER_S)
            if self._problem:
                self._log.info(Ev.KEY_USABLE)
            self._problem, self._hopeless = "", False
            work(signer)
        except (RecorderError, OSError) as problem:
            self._failed(problem)
        finally:
            self._busy = False

    def _reopen(self) -> None:
        """Take what the configuration names now; what was in use goes on when that cannot be used."""
        try:
            self._open()
        except (RecorderError, OSError) as problem:
            if self.signer is None:
                raise
            self._log.error(
                Ev.KEY_UNUSABLE, reason=problem, kept=self._facts.sha256[:16] if self._facts else ""
            )
            return
        self._next_expiry_ns = 0
        self._log.info(Ev.KEY_CHANGED, subject=self._facts.sha256[:16] if self._facts else "")

    def _open(self) -> Signer:
        source = key_source(self._evidence)
        facts = _facts_of(source.certificate_file)
        if self.signer is None:
            self._facts = facts
        self.signer = source.open()
        self._facts = facts
        return self.signer

    def _failed(self, problem: RecorderError | OSError) -> None:
        self._hopeless = not isinstance(problem, KeyUnavailable)
        self._problem = str(problem)
        self._log.error(Ev.KEY_UNUSABLE, reason=problem)

    def _warn_of_expiry(self) -> None:
        facts = self._facts
        if facts is None or not self._expires_soon(facts):
            return
        fields = {"days_left": facts.days_left(self._now()), "valid_to": f"{facts.valid_to:%Y-%m-%d}"}
        if facts.valid_to < self._now():
            self._log.error(Ev.CERTIFICATE_EXPIRED, subject=facts.sha256[:16], **fields)
        else:
            self._log.warning(Ev.CERTIFICATE_EXPIRES, subject=facts.sha256[:16], **fields)

    def _expires_soon(self, facts: CertificateFacts) -> bool:
        return facts.days_left(self._now()) < self._evidence.expiry_warning_days

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.utc_ns() / NS_PER_S, tz=UTC)


def _facts_of(certificate_file: Path) -> CertificateFacts | None:
    try:
        return describe_certificate(certificate_file.read_bytes())
    except (OSError, ValueError):
        return None
