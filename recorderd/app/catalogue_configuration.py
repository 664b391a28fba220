"""Where the catalogue lies, in archive.toml; ``archive_catalogue`` opens it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd.app.schema import Problem, option


def _postgresql_url(value: Any) -> str | None:
    fits = re.fullmatch(r"(postgresql://([A-Za-z0-9_.-]+@)?[^\s:@/?#]*(:\d{1,5})?/[^\s@#]+)?", value)
    return None if fits else "give postgresql://USER@HOST:PORT/NAME; the password has a file of its own"


def _region(value: Any) -> str | None:
    return None if re.fullmatch(r"([A-Z]{2})?", value) else "give two capital letters, like GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueSection:
    """[catalogue]"""

    url: str = option(
        "postgresql://USER@HOST:PORT/NAME of a database; empty = an SQLite file in archive.data_dir.",
        default="",
        check=_postgresql_url,
    )
    password_file: Path | None = option("File with the user's password, mode 600.", default=None)
    region: str = option(
        "Country of numbers without a country code, like GB; empty = such numbers are digits only.",
        default="",
        check=_region,
    )


def catalogue_problems(catalogue: CatalogueSection) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    if catalogue.password_file is not None and not catalogue.url:
        yield Problem(
            key="catalogue.password_file", reason="goes with url", remedy="give both of them or none"
        )
