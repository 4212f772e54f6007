"""Set what must be in the environment before scikit-learn or matplotlib is imported."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
