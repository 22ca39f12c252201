"""Sound and text by themselves: audio, features, the normalizer, tokens, room acoustics, spoken
sentences. No corpora, no torch.
"""
