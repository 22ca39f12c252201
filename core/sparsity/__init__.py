"""Masks that lie over a model and never change it."""
