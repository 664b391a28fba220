"""RTP sockets, batches, and the ring that is addressed by RTP timestamp."""
