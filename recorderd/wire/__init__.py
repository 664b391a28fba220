"""Bytes to objects and back: each format is parsed at one place, or raises that format's one error."""
