"""Building blocks of streaming encoders. Shapes: B utterances, T frames of 40 ms, D model width, H
heads, S state frames.
"""
