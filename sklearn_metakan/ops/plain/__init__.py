"""Features and weights of blocks, and their ways back, in plain PyTorch; see ``triton``."""
