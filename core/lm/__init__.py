"""Words and their order: n-gram language models, grammars, and the decoding graphs made of them and
a lexicon. No torch.
"""
