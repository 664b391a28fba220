"""Composition roots: configuration, programs, control socket, systemd."""
