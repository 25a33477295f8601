"""Sweep words, search spaces, samplers and pruners."""
