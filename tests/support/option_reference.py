"""The option list in config/README.md, written from the same declarations that parse the configuration."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any


def option_rows(kind: type, prefix: str = "") -> Iterator[str]:
    """Give the rows of a Markdown table: key, default, meaning."""
    hints = typing.get_type_hints(kind)
    for entry in fields(kind):
        inner, is_map = _inner(hints[entry.name])
        key = f"{prefix}{entry.name}"
        if inner is not None:
            yield from option_rows(inner, f"{key}.<id>." if is_map else f"{key}.")
        else:
            yield f"| `{key}` | {_default(entry)} | {entry.metadata['doc']}{_bounds(entry)} |"


def _inner(hint: Any) -> tuple[type | None, bool]:
    if is_dataclass(hint) and isinstance(hint, type):
        return hint, False
    arguments = typing.get_args(hint)
    for argument in arguments:
        if is_dataclass(argument) and isinstance(argument, type):
            return argument, typing.get_origin(hint) is dict
    return None, False


def _default(entry: Field[Any]) -> str:
    if entry.default is MISSING:
        return "required"
    value = entry.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{row}"' if isinstance(row, str) else f"{row}" for row in value) + "]`"
    text = getattr(value, "value", value)
    return f'`"{text}"`' if isinstance(text, str) else f"`{text}`"


def _bounds(entry: Field[Any]) -> str:
    low, high = entry.metadata.get("minimum"), entry.metadata.get("maximum")
    if low is None:
        return ""
    return f" From {low} to {high}." if high is not None else f" At least {low}."
