"""What the power supply allows."""
