"""Accounts, what they reach, groups, API tokens, sessions and share links."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision: str | None = "0020"
branch_labels = None
depends_on = None

WORD = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "accounts",
        _key("name"),
        _word("role"),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("second_right", sa.Boolean, nullable=False),
        _word("password_hash"),
        _word("totp_secret"),
        *(_number(name) for name in ("totp_step", "failures", "locked_until_utc_s")),
        _word("oidc_subject"),
        _word("created_at"),
    )
    op.create_table("account_reach", _key("account"), _key("kind"), _key("name"))
    op.create_table("group_members", _key("group_name"), _key("kind"), _key("name"))
    op.create_table(
        "api_tokens",
        _key("id"),
        *(_word(name) for name in ("account", "name", "secret_sha256", "scopes")),
        _number("expires_utc_s"),
        _word("created_at"),
    )
    op.create_index("api_tokens_by_account", "api_tokens", ["account"])
    op.create_table(
        "sessions",
        _key("secret_sha256"),
        *(_word(name) for name in ("account", "csrf_sha256", "address")),
        _number("began_utc_s"),
        _number("seen_utc_s"),
    )
    op.create_index("sessions_by_account", "sessions", ["account"])
    op.create_table(
        "shares",
        _key("id"),
        *(_word(name) for name in ("secret_sha256", "passphrase_hash", "recorder_id", "recording_id")),
        *(_number(name) for name in ("expires_utc_s", "uses_left", "failures_left")),
        _word("created_by"),
        _word("created_at"),
    )


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, WORD, primary_key=True)


def _word(name: str) -> sa.Column[str]:
    return sa.Column(name, WORD, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=False)
