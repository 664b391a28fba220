"""Standard output for people: tables and marked text."""

from __future__ import annotations

from rich.console import Console


class Output(Console):
    """A console whose reader may leave, as that of `| head` does: the program's own exit code says so.

    Errors: BrokenPipeError.
    """

    def on_broken_pipe(self) -> None:
        """Pass the error on: rich itself would end the program with 1, as if something were wrong."""
        raise BrokenPipeError
