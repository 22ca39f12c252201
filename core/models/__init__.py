"""Supernet backbones: one file each."""
