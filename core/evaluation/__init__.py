"""Measurements of a subnet: errors with intervals, latency, fitness on held-out speech."""
