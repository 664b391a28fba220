"""[[pairs]] of archive.toml: recorders that record the same calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recorderd.app.schema import Problem, option
from recorderd.core.ids import is_safe_id


def _recorders(value: Any) -> str | None:
    fits = len(value) >= 2 and len(set(value)) == len(value) and all(is_safe_id(name) for name in value)
    return None if fits else "name two recorders or more, each once"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSection:
    """[[pairs]]"""

    recorders: tuple[str, ...] = option(
        "Recorders that the exchange sends the same calls to, by their ids.", check=_recorders
    )


def pairs_problems(pairs: Sequence[PairSection]) -> Iterator[Problem]:
    """Find what is wrong between pairs that are right by themselves."""
    seen: set[str] = set()
    for number, pair in enumerate(pairs):
        for name in sorted(seen & set(pair.recorders)):
            yield Problem(
                key=f"pairs[{number}].recorders",
                reason=f"{name} is in another pair, too",
                remedy="name each recorder in one pair",
            )
        seen |= set(pair.recorders)
