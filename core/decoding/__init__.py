"""From frames to tokens, whole or as a stream: greedy and beam search."""
