"""Arithmetic on sound: arrays in, arrays out; no clock, no I/O, no logging."""
