"""Language models of words: n-grams, their estimation, and their score beside a beam. NumPy, no torch."""
