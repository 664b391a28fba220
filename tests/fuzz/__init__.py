"""Search for SIPREC requests that break the recorder; run by `make fuzz`."""
