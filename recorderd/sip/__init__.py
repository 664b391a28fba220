"""Signalling; the only importer of pjsua2, and one thread makes every call into it."""
