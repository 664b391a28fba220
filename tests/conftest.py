"""Profiles of hypothesis: `make fuzz` looks long for what `make test` looks for briefly."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=20_000, deadline=None)
settings.register_profile("test", deadline=None)
settings.load_profile("test")
