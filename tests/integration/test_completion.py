"""Shells complete our commands: what they read is made from the parsers, and typed into real shells."""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.completion import FOLDER, PARSERS, scripts
from tests.support.programs import ROOT

PROMPT = "ready> "
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x07|\r")


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""  # and not yet waited for

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def until(self, wanted: str, *, within_s: float = 60) -> None:
        """Read the screen until it shows this."""
        end_s = time.monotonic() + within_s
        while wanted not in self._shown:
            assert time.monotonic() < end_s, f"no {wanted!r} in {self._shown!r}"
            if select.select([self._descriptor], [], [], 0.2)[0]:
                octets = os.read(self._descriptor, 4096)
                self._shown += _CONTROL.sub("", octets.decode(errors="replace"))
        self._shown = self._shown.partition(wanted)[2]

    def completes(self, typed: str, into: str) -> None:
        """See what the tab key makes of what was typed; then forget the line."""
        self.type(f"{typed}\t")
        self.until(into)
        self.type("\x15\n")  # ctrl-u
        self.until(PROMPT)


@contextmanager
def shell(*command: str, folder: Path) -> Iterator[Shell]:
    leader, follower = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "PS1": PROMPT, "TERM": "dumb", "HOME": str(folder)}
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    try:
        yield Shell(leader)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def check(typed: Shell) -> None:
    typed.completes("recorder-archive retention sw", "retention sweep ")
    typed.completes("recorder-archive subj", "recorder-archive subject-access ")
    typed.completes("recorder-archive erase --right", "--right-to-erasure ")
    typed.completes("recorder-archive hold add --config arch", "archive.toml ")
    typed.completes("recorderctl keys in", "recorderctl keys in")  # init, install: both
    typed.completes("recorderctl keys rot", "recorderctl keys rotate ")
    typed.completes("recorderctl status --js", "recorderctl status --json ")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Give a parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                yield from parsers(part)


def test_the_scripts_are_those_of_the_parsers() -> None:
    for place, text in scripts().items():
        told = "write them anew: python -m tests.support.completion"
        assert (FOLDER / place).read_text() == text, f"{place}: {told}"


def test_every_command_says_what_it_does_and_what_each_word_of_it_is() -> None:
    for name, parser_of in PARSERS.items():
        for parser in parsers(parser_of()):
            for action in parser._actions:
                if isinstance(action, argparse._SubParsersAction):
                    assert len(action._choices_actions) == len(action.choices), parser.prog
                    assert all(choice.help for choice in action._choices_actions), parser.prog
                else:
                    assert action.help, f"{parser.prog}: {action.dest}"
        assert parser_of().prog == name


def test_they_are_installed_where_shells_look() -> None:
    files = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    for place, patterns in files.items():
        assert place in ("share/bash-completion/completions", "share/zsh/site-functions")
        assert len([path for pattern in patterns for path in ROOT.glob(pattern)]) == 2


@pytest.mark.timeout(300)  # a loaded machine takes its time over a tab
def test_bash_completes_commands_options_and_files(tmp_path: Path) -> None:
    (tmp_path / "archive.toml").touch()
    with shell("bash", "--norc", "--noprofile", "-i", folder=tmp_path) as typed:
        typed.until(PROMPT)
        for path in sorted((FOLDER / "bash").iterdir()):
            typed.type(f"source {path}\n")
            typed.until(PROMPT)
        check(typed)


@pytest.mark.timeout(300)
def test_zsh_completes_the_same(tmp_path: Path) -> None:
    (tmp_path / "archive.toml").touch()
    with shell("zsh", "-f", "-i", folder=tmp_path) as typed:
        typed.until(PROMPT)
        folder = FOLDER / "zsh"
        typed.type(f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; print begun\n")
        typed.until("\nbegun")
        typed.until(PROMPT)
        check(typed)
