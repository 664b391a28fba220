"""Conformance: what recording clients send, and what must stand in the archive afterwards."""

import pytest

pytest.register_assert_rewrite("tests.interop.stage", "tests.interop.scenarios")
