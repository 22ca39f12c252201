"""Training methods: one file each, on the contract in base.py."""
