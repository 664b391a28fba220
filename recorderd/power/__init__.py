"""Power: asks UPSes how they are, by NUT or apcupsd; ``policy.power`` decides what it comes to."""
