"""No branch of dsp is left out by its own tests, those of luck (``tests/property``) not counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN_TESTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/unit").glob("test_dsp*.py"))


@pytest.mark.timeout(300)  # on a busy machine
def test_every_branch_of_dsp_is_taken_by_its_own_tests(tmp_path: Path) -> None:
    report = tmp_path / "branches.json"
    # No settings but these: neither a file of settings nor the environment may leave anything out.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["COVERAGE_FILE"] = str(tmp_path / "branches")
    coverage = [sys.executable, "-m", "coverage"]
    run = subprocess.run(
        [
            *coverage,
            "run",
            "--rcfile=",
            "--branch",
            "--source=dsp",
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            *OWN_TESTS,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    subprocess.run(
        [*coverage, "json", "--rcfile=", "-q", "-o", str(report)], cwd=ROOT, env=environment, check=True
    )
    files = json.loads(report.read_text())["files"]
    assert set(files) == {str(path.relative_to(ROOT)) for path in (ROOT / "dsp").rglob("*.py")}
    missing = {
        name: {"lines": each["missing_lines"], "branches": each["missing_branches"]}
        for name, each in files.items()
        if each["missing_lines"] or each["missing_branches"]
    }
    excluded = {name: each["excluded_lines"] for name, each in files.items() if each["excluded_lines"]}
    assert (missing, excluded) == ({}, {})
