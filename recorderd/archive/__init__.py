"""The archive host: receives, verifies, stores, commits, and only then speaks."""
