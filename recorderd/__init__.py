"""recorderd: a call recorder that people trust with evidence."""

__version__ = "0.1.0"
