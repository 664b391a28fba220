"""Writes the published OpenAPI document: ``python -m tests.support.web_schema``."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from recorderd.archive.web import application
from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog


def main() -> None:
    """Write it beside the application."""
    clock = SystemClock()
    log = EventLog(logger=logging.getLogger("schema"), clock=clock)
    app = application.make_application(log=log, clock=clock, requests_per_minute=600)
    text = json.dumps(app.openapi(), indent=1, sort_keys=True)
    Path(application.__file__).with_name("openapi.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
