"""The scenarios, one module per family; importing this package registers all of them."""

from tests.interop.scenarios import answers, changes, control, legs, metadata, quirks, timing

__all__ = ["answers", "changes", "control", "legs", "metadata", "quirks", "timing"]
