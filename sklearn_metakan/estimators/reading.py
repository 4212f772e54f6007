"""What is read of a fitted estimator to look inside."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_metakan.estimators.inputs.table import N_QUANTILES

N_TYPICAL = 512


def typical_inputs(estimator: Any) -> tuple[Tensor, Tensor]:
    """Two independent samples of a fitted network's inputs, (512, n_kept).

    Drawn column by column from the training data's quantiles, always the same.
    """
    rng, samples = np.random.default_rng(0), []
    table, execution = estimator.input_scaler_.quantiles_, estimator.net_.execution_
    for _ in range(2):
        rows = rng.integers(N_QUANTILES, size=(N_TYPICAL, table.shape[1]))
        drawn = torch.from_numpy(np.take_along_axis(table, rows, axis=0))
        samples.append(drawn.to(execution.device, execution.dtype))
    return samples[0], samples[1]


def responses(estimator: Any, X: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a fitted estimator says of rows, and what each of its members says by itself.

    Parameters
    ----------
    estimator : fitted estimator of tables
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    whole : ndarray of shape (n_samples, n_outputs)
        What ``predict`` gives (regressors) or ``decision_function`` (classifiers).
    members : ndarray of shape (n_samples, n_members, n_outputs)
        The same of each member.
    """
    check_is_fitted(estimator)
    fitted, _, outputs = estimator._outputs(X)
    target = fitted.target_
    respond = target if target.is_numeric else target.logits
    by_member = [outputs] if outputs.dim() == 2 else outputs.unbind(1)
    found = [respond(each).numpy().reshape(len(each), -1) for each in (outputs, *by_member)]
    return found[0], np.stack(found[1:], axis=1)
