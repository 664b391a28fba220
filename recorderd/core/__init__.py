"""Vocabulary: ids, messages, clocks, errors and events (standard library only)."""
