"""One file per source of speech, found by scanning: a docstring, VERSION, Options and Corpus (see
base.py).
"""
