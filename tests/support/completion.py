"""Writes what shells complete commands by, from the parsers: ``python -m tests.support.completion``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import shtab

from recorderd.app import archive, recorderctl

FOLDER: Final = Path(__file__).parents[2] / "config" / "completion"
PARSERS: Final[dict[str, Callable[[], argparse.ArgumentParser]]] = {
    "recorder-archive": archive._parser,
    "recorderctl": recorderctl._parser,
}


def scripts() -> dict[str, str]:
    """Give every script by its place below ``FOLDER``."""
    found = {}
    for name, parser_of in PARSERS.items():
        for shell, prefix in (("bash", ""), ("zsh", "_")):
            parser = parser_of()
            for action in _actions(parser):
                _say_what_fits(action)
            found[f"{shell}/{prefix}{name}"] = _plain(shtab.complete(parser, shell))
    return found


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for part in set(action.choices.values()):
                yield from _actions(part)


def _say_what_fits(action: argparse.Action) -> None:
    if action.type is Path:
        action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]


def _plain(text: str) -> str:
    """Leave out how a script would be installed by hand."""
    first, *rest = text.splitlines()
    kept = [line for line in rest if not line.startswith("#")]
    mark = "# Written by shtab from the program's parser: python -m tests.support.completion"
    return "\n".join([*([first] if first.startswith("#compdef") else []), mark, *kept, ""])


def main() -> None:
    """Write them."""
    for place, text in scripts().items():
        path = FOLDER / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
