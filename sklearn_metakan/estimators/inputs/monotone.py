"""Columns in which predictions must rise or fall: what users say of them, and what forbids it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_monotonic_cst


def check_monotone(estimator: Any) -> None:
    """What can be said without columns.

    Raises ValueError for functions that cannot be kept monotone.
    """
    if estimator.basis != "bspline":
        raise ValueError(
            f"monotonic_cst contradicts basis={estimator.basis!r}: of splines alone the order of "
            "coefficients is that of the functions. Set basis='bspline'."
        )
    if estimator.extrapolation == "base":
        raise ValueError(
            "monotonic_cst contradicts extrapolation='base', with which splines end beyond the "
            "range of training. Set extrapolation to 'linear', 'constant' or 'error'."
        )


def monotone_signs(
    inputs: Any, estimator: Any, n_outputs: int, of_labels: bool
) -> NDArray[np.int64] | None:
    """A sign for each number of the network; None if no column that varies is constrained.

    Raises ValueError for what names no columns, for columns of categories, and for more than two
    classes.
    """
    signs = np.asarray(_check_monotonic_cst(estimator, estimator.monotonic_cst), dtype=np.int64)
    if not signs.any():
        return None
    if of_labels and n_outputs > 1:
        raise ValueError(
            "monotonic_cst is not supported for more than two classes: as the probability of one "
            "rises, that of another falls. Fit a regressor or one classifier for each class."
        )
    for j in np.flatnonzero(signs):
        if j in inputs.reader.categorical:
            raise ValueError(
                f"monotonic_cst names {inputs.called(int(j))}, which holds categories: they have "
                "no order. Give it 0, or numbers in place of the categories."
            )
    found = signs[inputs.kept_[: inputs.n_numbers]]
    return found if found.any() else None
