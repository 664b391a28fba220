"""The OpenAPI document is what is published, and no request that it describes is answered with a 500."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from recorderd.archive.web import application
from recorderd.policy.access import Role
from tests.support.web_archive import WebArchive, quick_folder

PUBLISHED = Path(application.__file__).with_name("openapi.json")
EXAMPLES = int(os.environ.get("RECORDERD_SCHEMA_EXAMPLES", "4"))  # of each endpoint


@pytest.fixture(scope="module")
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder, per_minute=100_000)
        archive.add_accounts()
        archive.record("own")
        yield archive


def test_the_published_document_is_that_of_the_application(archive: WebArchive) -> None:
    assert json.loads(PUBLISHED.read_text()) == archive.app.openapi(), (
        "write it anew: python -m tests.support.web_schema"
    )


def test_no_request_breaks_the_interface(archive: WebArchive) -> None:
    headers = {"Authorization": f"Bearer {archive.tokens[Role.ADMINISTRATOR, True]}"}
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", archive.app)
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            response = case.call(headers=headers)
            assert response.status_code < 500, f"{case.as_curl_command()}: {response.text}"

        ask()
        asked.append(operation.label)
    works = [work for path in archive.app.openapi()["paths"].values() for work in path]
    assert len(asked) == len(works)
    assert archive.events().get("internal_error", 0) == 0
