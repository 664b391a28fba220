"""Tells of recipients whose certificates or keys have ended: at start, every hour, and in the status.

Contract: nothing is refused and no recording stopped because of it. Those that ended before the start are
left out while another of their section is valid (``evidence.loading``); without any, they are encrypted to
all the same: their holder has the key, and nothing else would keep the audio from lying there in clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.openpgp import PgpRecipient, PgpRecipients
from recorderd.evidence.recipients import CertificateRecipient

LOOK_NS: Final = 3600 * NS_PER_S


class RecipientWatch:
    """Looks at the recipients of all sections.

    Thread: ``look`` the main one, ``describe`` any.
    """

    def __init__(
        self, encryption: Mapping[str, CertificateRecipients | PgpRecipients], *, clock: Clock, log: EventLog
    ) -> None:
        self._encryption = encryption
        self._clock = clock
        self._log = log
        self._due_ns = clock.mono_ns()

    def look(self) -> None:
        """Warn, once an hour, of each that has ended."""
        if self._clock.mono_ns() < self._due_ns:
            return
        self._due_ns += LOOK_NS
        for row in self.describe():
            self._log.warning(Ev.RECIPIENT_EXPIRED, subject=row["section"], **row)

    def describe(self) -> list[dict[str, Any]]:
        """List those that have ended, and whether they are encrypted to all the same."""
        return list(self._ended(datetime.fromtimestamp(self._clock.utc_ns() / NS_PER_S, tz=UTC)))

    def _ended(self, now: datetime) -> Iterator[dict[str, Any]]:
        for section, entry in self._encryption.items():
            rows: tuple[CertificateRecipient | PgpRecipient, ...] = (*entry.recipients, *entry.left_out)
            for recipient in rows:
                if recipient.expires_at is not None and recipient.expires_at < now:
                    yield {
                        "section": section,
                        "recipient": recipient.name,
                        "ended": f"{recipient.expires_at:%Y-%m-%d}",
                        "used": recipient in entry.recipients,
                    }
