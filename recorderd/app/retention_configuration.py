"""Retention in archive.toml: classes, WORM, the hour of the sweep, quotas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recorderd.app.schema import Problem, option, section
from recorderd.core.ids import is_safe_id
from recorderd.policy.quota import Quotas
from recorderd.policy.retention import DEFAULT_DAYS, Erase, RetentionClass, Terms
from recorderd.wire.retention_terms import DAYS_LIMIT


def _hour(value: Any) -> str | None:
    return None if re.fullmatch(r"(([01]\d|2[0-3]):[0-5]\d)?", value) else "give HH:MM, or nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSection:
    """[retention.classes.<name>]"""

    minimum_days: int = option("Nobody erases it before.", default=0, minimum=0, maximum=DAYS_LIMIT)
    maximum_days: int = option("Then it is erased.", default=DEFAULT_DAYS, minimum=0, maximum=DAYS_LIMIT)
    erase: Erase = option("all, or audio: manifest and signatures stay.", default=Erase.ALL)
    right_to_erasure: bool = option(
        "A person's right to erasure goes before the minimum (not before a hold, nor WORM).", default=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSection:
    """[retention]"""

    worm: bool = option(
        "Nobody shortens: what came under a time is kept for it, whatever is configured later.", default=False
    )
    sweep_at: str = option(
        "Local time of the daily sweep, HH:MM; empty = only by `retention sweep`.",
        default="03:00",
        check=_hour,
    )
    total_quota_bytes: int = option(
        "Warn when the archive holds more; 0 = never.", default=0, minimum=0, maximum=1 << 62
    )
    user_quota_bytes: int = option(
        "Warn when it holds more of one extension; 0 = never.", default=0, minimum=0, maximum=1 << 62
    )
    quota_warning_percent: int = option(
        "Warn from so much of a quota on.", default=80, minimum=1, maximum=100
    )
    classes: dict[str, ClassSection] = section(
        "Classes by the name that recorders' rules give; `default` is for calls without one.",
        default_factory=dict,
    )


def unswept() -> RetentionSection:
    """Give what holds where nobody has said how long: an archive of an earlier release erases nothing."""
    return RetentionSection(sweep_at="")


def terms_of(retention: RetentionSection) -> Terms:
    """Give the terms that are configured."""
    classes = tuple(
        RetentionClass(
            name=name,
            minimum_days=row.minimum_days,
            maximum_days=row.maximum_days,
            erase=row.erase,
            right_to_erasure=row.right_to_erasure,
        )
        for name, row in sorted(retention.classes.items())
    )
    return Terms(classes=classes, worm=retention.worm)


def quotas_of(retention: RetentionSection) -> Quotas:
    """Give the quotas that are configured."""
    return Quotas(
        total_bytes=retention.total_quota_bytes,
        user_bytes=retention.user_quota_bytes,
        warning_percent=retention.quota_warning_percent,
    )


def retention_problems(retention: RetentionSection) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    for name, row in retention.classes.items():
        key = f"retention.classes.{name}"
        if not is_safe_id(name):
            remedy = "give 1 to 64 letters, digits, _ or -"
            yield Problem(key=key, reason="is no name of a class", remedy=remedy)
        if row.maximum_days < row.minimum_days:
            remedy = f"give at least {row.minimum_days}"
            yield Problem(key=f"{key}.maximum_days", reason="is below minimum_days", remedy=remedy)
        if retention.worm and row.right_to_erasure:
            yield Problem(
                key=f"{key}.right_to_erasure",
                reason="cannot be met under worm",
                remedy="leave one of them out",
            )
