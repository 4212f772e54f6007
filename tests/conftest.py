"""Set what must be in the environment before scikit-learn, matplotlib or triton is imported."""

import os

import torch

os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
