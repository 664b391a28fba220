"""The OpenAPI document is what is published, and no request that it describes is answered with a 500."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from recorderd.archive.web import application
from recorderd.policy.access import Role
from tests.support.web_archive import WebArchive, quick_folder

PUBLISHED = Path(application.__file__).with_name("openapi.json")
EXAMPLES = int(os.environ.get("RECORDERD_SCHEMA_EXAMPLES", "12"))  # of each endpoint


@pytest.fixture(scope="module")
def archive() -> Iterator[WebArchive]:
    with quick_folder() as folder:
        archive = WebArchive(folder, per_minute=100_000)
        archive.add_accounts()
        archive.record("own")
        yield archive


@pytest.fixture(scope="module")
def web_schema(archive: WebArchive) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", archive.app)


schema = schemathesis.pytest.from_fixture("web_schema")


def test_the_published_document_is_that_of_the_application(archive: WebArchive) -> None:
    assert json.loads(PUBLISHED.read_text()) == archive.app.openapi(), (
        "write it anew: python -m tests.support.web_schema"
    )


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_no_request_breaks_the_interface(case: schemathesis.Case, archive: WebArchive) -> None:
    token = archive.tokens[Role.ADMINISTRATOR, True]
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=[not_a_server_error])
