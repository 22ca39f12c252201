"""Whole pieces of work: build, train, evaluate, compare, dry run. The only package that knows all
others below it.
"""
