"""From the ring to a sealed recording: windows, timeline, WAV draft, seal."""
