"""Voices that speak texts: one file each, found by scanning (see base.py)."""
