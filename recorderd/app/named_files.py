"""The files that a configuration names, looked at by `check-config`: all of them, each told by its key.

Contract: a file that does not do keeps no other from being looked at. What may be right later (a token that
is away) is told by its own error, and only where nothing else is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from recorderd.app.schema import Problem, refuse
from recorderd.core.errors import ConfigurationError, KeyUnavailable, KeyUnusable, RecorderError

Look = tuple[str, Callable[[], object]]
_REFUSED = (KeyUnusable, ConfigurationError, OSError)


def check_named_files(path: Path, looks: Iterable[Look], *, further: Iterable[Problem] = ()) -> None:
    """Look at every file that the configuration at ``path`` names; ``further`` is what else is wrong with it.

    Errors: ConfigurationError with every one that does not do; KeyUnavailable.
    """
    problems, away = [], None
    for key, look in looks:
        try:
            look()
        except KeyUnavailable as problem:
            away = problem
        except _REFUSED as problem:
            problems.append(_problem(key, problem))
    refuse(path, [*problems, *further])
    if away is not None:
        raise away


def _problem(key: str, found: Exception) -> Problem:
    remedy = found.hint if isinstance(found, RecorderError) else ""
    return Problem(key=key, reason=str(found).rstrip("."), remedy=remedy or "let this program's user read it")
