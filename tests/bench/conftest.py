"""Options of the bench: ``--profile`` shows where the time goes."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--profile", action="store_true", help="show where recorderd's time goes, by thread and by function"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: runs for long; run by `make soak`")
