"""Tables of accounts: who they are, what they may reach, and how they prove it.

No secret of a person stands here but the TOTP seed, which must be read to check a code: passwords are argon2
hashes, tokens, sessions and share links SHA-256 of random strings.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Index, Table

from recorderd.archive.tables import METADATA, NUMBER, WORD

ACCOUNTS: Final = Table(
    "accounts",
    METADATA,
    Column("name", WORD, primary_key=True),
    Column("role", WORD, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("second_right", Boolean, nullable=False),  # to restricted recordings
    Column("password_hash", WORD, nullable=False),  # empty = no password
    Column("totp_secret", WORD, nullable=False),  # empty = none
    Column("totp_step", NUMBER, nullable=False),  # the newest that was used: none counts twice
    Column("failures", NUMBER, nullable=False),
    Column("locked_until_utc_s", NUMBER, nullable=False),
    Column("oidc_subject", WORD, nullable=False),  # issuer and subject; empty = none
    Column("created_at", WORD, nullable=False),
)
ACCOUNT_REACH: Final = Table(
    "account_reach",
    METADATA,
    Column("account", WORD, primary_key=True),
    Column("kind", WORD, primary_key=True),  # extension, group, recorder
    Column("name", WORD, primary_key=True),
)
GROUP_MEMBERS: Final = Table(
    "group_members",
    METADATA,
    Column("group_name", WORD, primary_key=True),
    Column("kind", WORD, primary_key=True),  # extension, queue
    Column("name", WORD, primary_key=True),
)
API_TOKENS: Final = Table(
    "api_tokens",
    METADATA,
    Column("id", WORD, primary_key=True),
    Column("account", WORD, nullable=False),
    Column("name", WORD, nullable=False),
    Column("secret_sha256", WORD, nullable=False),
    Column("scopes", WORD, nullable=False),  # words of Action
    Column("expires_utc_s", NUMBER, nullable=False),
    Column("created_at", WORD, nullable=False),
    Index("api_tokens_by_account", "account"),
)
SESSIONS: Final = Table(
    "sessions",
    METADATA,
    Column("secret_sha256", WORD, primary_key=True),
    Column("account", WORD, nullable=False),
    Column("csrf_sha256", WORD, nullable=False),
    Column("address", WORD, nullable=False),
    Column("began_utc_s", NUMBER, nullable=False),
    Column("seen_utc_s", NUMBER, nullable=False),
    Index("sessions_by_account", "account"),
)
SHARES: Final = Table(
    "shares",
    METADATA,
    Column("id", WORD, primary_key=True),
    Column("secret_sha256", WORD, nullable=False),
    Column("passphrase_hash", WORD, nullable=False),
    Column("recorder_id", WORD, nullable=False),
    Column("recording_id", WORD, nullable=False),
    Column("expires_utc_s", NUMBER, nullable=False),
    Column("uses_left", NUMBER, nullable=False),
    Column("failures_left", NUMBER, nullable=False),
    Column("created_by", WORD, nullable=False),
    Column("created_at", WORD, nullable=False),
)
OIDC_ATTEMPTS: Final = Table(
    "oidc_attempts",
    METADATA,
    Column("state_sha256", WORD, primary_key=True),
    Column("nonce", WORD, nullable=False),
    Column("verifier", WORD, nullable=False),
    Column("expires_utc_s", NUMBER, nullable=False),
)
