"""Voices that speak text: one file each, behind the contract in base.py."""
