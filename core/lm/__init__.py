"""Words and their order: pronunciations, n-gram language models, grammars and the decoding graphs made of them. No torch."""
