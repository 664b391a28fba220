"""TOML to frozen objects: parsed once, all problems reported together, unknown keys refused.

A configuration section is a frozen dataclass; each field is made by ``option`` (or ``section`` for a
table). The same declarations serve parsing, `check-config` and the option list in config/README.md.
"""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

from recorderd.core.errors import ConfigurationError

T = TypeVar("T")
_USER_OF_URL: Final = re.compile(r"//.*@")
_SECRET: Final = re.compile(r"(?i)\b(password|pin-value)=[^&'\"]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a configuration: the key, what is wrong, what would be right."""

    key: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}; {self.remedy}"


def option(
    doc: str,
    *,
    default: Any = MISSING,
    minimum: float | None = None,
    maximum: float | None = None,
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """Declare a key; ``check`` returns what would be right, or None when the value is."""
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum, "check": check}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def section(doc: str, **how: Any) -> Any:
    """Declare a table; pass ``default_factory`` or ``default`` when it may be absent."""
    return field(metadata={"doc": doc}, **how)


def load(kind: type[T], path: Path) -> T:
    """Read the TOML file at ``path`` into ``kind``; relative paths in it start at its folder.

    Errors: ConfigurationError with every problem of the file.
    """
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise _failure(
            path, [Problem(key="file", reason="does not exist", remedy="name it with --config")]
        ) from None
    except OSError as problem:
        raise _failure(path, [Problem(key="file", reason=str(problem), remedy="make it readable")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise _failure(path, [Problem(key="file", reason=str(problem), remedy="write valid TOML")]) from None
    return parse(kind, table, base=path.parent.resolve(), path=path)


def parse(kind: type[T], table: dict[str, Any], *, base: Path, path: Path) -> T:
    """Turn a parsed TOML table into ``kind``.

    Errors: ConfigurationError with every problem found.
    """
    problems: list[Problem] = []
    parsed = _table(kind, table, "", base, problems)
    if not problems:
        cross_check = getattr(parsed, "cross_check", None)
        problems = list(cross_check()) if cross_check is not None else []
    if problems:
        raise _failure(path, problems)
    return typing.cast(T, parsed)


def refuse(path: Path, problems: list[Problem]) -> None:
    """Refuse a configuration that has problems.

    Errors: ConfigurationError.
    """
    if problems:
        raise _failure(path, problems)


def _failure(path: Path, problems: list[Problem]) -> ConfigurationError:
    lines = "\n".join(f"  {problem}" for problem in problems)
    return ConfigurationError(path=path, count=len(problems), problems=lines)


def _table(kind: type, table: dict[str, Any], prefix: str, base: Path, problems: list[Problem]) -> Any:
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    before = len(problems)
    declared = {entry.name: entry for entry in fields(kind)}
    for name in sorted(set(table) - set(declared)):
        known = ", ".join(sorted(declared))
        problems.append(Problem(key=prefix + name, reason="unknown key", remedy=f"known here: {known}"))
    for name, entry in declared.items():
        if name not in table:
            if entry.default is MISSING and entry.default_factory is MISSING:
                problems.append(Problem(key=prefix + name, reason="missing", remedy=entry.metadata["doc"]))
            continue
        found_before = len(problems)
        values[name] = _value(hints[name], table[name], prefix + name, base, problems)
        if len(problems) == found_before:  # a check is made for values of the right type, in lists too
            _check(entry.metadata, values[name], prefix + name, problems)
    return kind(**values) if len(problems) == before else None


def _check(metadata: Any, value: Any, key: str, problems: list[Problem]) -> None:
    low, high, check = (metadata.get(word) for word in ("minimum", "maximum", "check"))
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        problems.append(Problem(key=key, reason=f"{value} is out of range", remedy=f"give a value {bounds}"))
    elif check is not None and (remedy := check(value)) is not None:
        shown = _SECRET.sub(r"\1=...", _USER_OF_URL.sub("//...@", repr(value)))
        problems.append(Problem(key=key, reason=f"{shown} is not right", remedy=remedy))


def _value(hint: Any, value: Any, key: str, base: Path, problems: list[Problem]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return _value(inner, value, key, base, problems)
    if origin is tuple and isinstance(value, list):
        rows = enumerate(value)
        return tuple(_value(arguments[0], row, f"{key}[{n}]", base, problems) for n, row in rows)
    if origin is dict and isinstance(value, dict):
        return {
            name: _value(arguments[1], row, f"{key}.{name}", base, problems) for name, row in value.items()
        }
    if is_dataclass(hint) and isinstance(value, dict):
        return _table(typing.cast(type, hint), value, f"{key}.", base, problems)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _choice(hint, value, key, problems)
    if hint is Path and isinstance(value, str):
        return base / value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    wanted = {"tuple": "list", "dict": "table", "str": "string", "Path": "path as a string"}
    name = getattr(origin or hint, "__name__", str(hint))
    wish = "table" if is_dataclass(hint) else wanted.get(name, name)
    problems.append(Problem(key=key, reason=f"is of type {type(value).__name__}", remedy=f"give a {wish}"))
    return None


def _choice(hint: type[Enum], value: Any, key: str, problems: list[Problem]) -> Any:
    for member in hint:
        if member.value == value:
            return member
    choices = ", ".join(str(member.value) for member in hint)
    problems.append(Problem(key=key, reason=f"{value!r} is unknown", remedy=f"choose one of {choices}"))
    return None
