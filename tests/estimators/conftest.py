"""What the tests of all estimators share."""

import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning


@pytest.fixture(autouse=True)
def no_word_on_convergence():
    """Fits here are short on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Training stopped at max_iter", ConvergenceWarning)
        yield
