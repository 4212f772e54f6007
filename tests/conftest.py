"""Set what must be in the environment before scikit-learn, matplotlib or triton is imported."""

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser):
    parser.addoption("--data-dir", type=Path, default=Path("../shared/data"), help="public data")


@pytest.fixture(scope="session")
def data_dir(request):
    """The folder of public data, as in benchmarks; what it lacks skips a test, by name."""
    return request.config.getoption("--data-dir")
