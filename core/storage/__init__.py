"""What is kept: runs on disk and in remote storage, their metrics, packed files and copies to take
away. No torch.
"""
