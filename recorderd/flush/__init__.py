"""From the spool to the archive host over ZeroMQ."""
