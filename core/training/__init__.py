"""The training loop and what it needs: checkpoints, distributed processes, optimizers. Names no
method.
"""
