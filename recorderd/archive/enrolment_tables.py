"""Tables of enrolment. Rule: a code goes with its key when its time is over, used or not."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, LargeBinary, Table

from recorderd.archive.tables import METADATA, NUMBER, WORD

RECORDERS: Final = Table(
    "recorders",
    METADATA,
    Column("recorder_id", WORD, primary_key=True),
    Column("curve_public_key", WORD, nullable=False),  # empty: archive.toml has it
    Column("certificates_pem", WORD, nullable=False),  # all that were ever enrolled: recordings stay
    Column("enrolled_at", WORD, nullable=False),  # empty: never by a code
    Column("revoked_at", WORD, nullable=False),  # empty: it may come in
    Column("reason", WORD, nullable=False),  # of the revocation
    Column("quota_bytes", NUMBER, nullable=False),  # 0 = none
)
ENROLMENTS: Final = Table(
    "enrolments",
    METADATA,
    Column("code_id", WORD, primary_key=True),
    Column("recorder_id", WORD, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("expires_utc_s", NUMBER, nullable=False),
    Column("failures", NUMBER, nullable=False),
    Column("made_by", WORD, nullable=False),
    Column("used_at", WORD, nullable=False),
    Column("request_sha256", WORD, nullable=False),  # whoever asks with it again lost the answer
)
