"""KANs for regression of tables."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_scalar

from sklearn_metakan.estimators.estimator import KANEstimator
from sklearn_metakan.estimators.inputs.table import TableInputs
from sklearn_metakan.estimators.parameters import document
from sklearn_metakan.estimators.targets.number import NumberTarget
from sklearn_metakan.nn import build_network
from sklearn_metakan.training import Defaults


def predict(self: KANEstimator, X: ArrayLike, return_std: bool = False) -> Any:
    """Predictions in the target's units.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    return_std : bool, default=False
        Whether to return also the standard deviation of the members' predictions: how far they
        disagree, not the noise of the target.

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_outputs), or two of them
        The mean; the median for "absolute_error", the quantile for "quantile". In X's dtype;
        float64 where float32 could not tell the target's values apart, as with seconds since
        1970.

    Raises
    ------
    ValueError
        For invalid X, rows so far out that their prediction cannot be held, and
        ``return_std=True`` of a single network.
    """
    if not return_std:
        return KANEstimator.predict(self, X)
    fitted, X, outputs = self._outputs(X)
    if outputs.dim() == 2:
        raise ValueError(
            "return_std=True needs several members, which disagree; fit with n_estimators=4."
        )
    found = fitted.target_.predictions(outputs), fitted.target_.deviations(outputs).numpy()
    for each in found:
        fitted._check_held(X, np.isfinite(each))
    return found


def predict_interval(
    self: KANEstimator, X: ArrayLike, alpha: float = 0.1
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Intervals that hold the target of a new row in about 1 - alpha of cases, whatever its law.

    From the errors of the rows that were held out for early stopping, or of X_val: split conformal
    prediction, in which a row's error is that of the members that did not train on it. With
    ``loss="quantile"`` and several quantiles, the lowest and highest are widened or narrowed by
    what they missed (conformalised quantile regression), so that intervals follow the noise.
    Rows must be exchangeable: no drift, and new rows like those of ``fit``.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    alpha : float in (0, 1), default=0.1
        Share of cases outside, half of them on each side.

    Returns
    -------
    lower, upper : ndarray of shape (n_samples,) or (n_samples, n_outputs)

    Raises
    ------
    ValueError
        For invalid X or alpha, where the last training held no rows out (``early_stopping=False``,
        ``partial_fit``), and where those are too few for alpha.
    """
    alpha = check_scalar(alpha, "alpha", Real, min_val=0, max_val=1, include_boundaries="neither")
    fitted, X, outputs = self._outputs(X)
    if fitted._errors is None:
        raise ValueError(
            "predict_interval needs errors of held-out rows, and the last training had none. Call "
            "fit with early_stopping=True, or pass X_val and y_val."
        )
    found = fitted.target_.intervals(outputs, fitted._errors, alpha)
    for each in found:
        fitted._check_held(X, np.isfinite(each))
    return found


def score(self: Any, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """R2 of the predictions; of several quantiles, of the one nearest to 0.5.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    float
    """
    predictions, target = self.predict(X), self.target_
    if target.has_levels:
        predictions = predictions[..., target.middle]
    return float(r2_score(y, predictions, sample_weight=sample_weight))


@document
@dataclass(eq=False, repr=False)
class KANRegressor(MultiOutputMixin, RegressorMixin, KANEstimator):
    """Regression with a Kolmogorov-Arnold network.

    ``y_o = sum_i phi_oi(x_i)`` in every layer; each phi is a sum of basis functions whose
    coefficients are trained: of silu and splines, C = grid_size + degree + 1.

    Parameters
    ----------
    {TUNE_FIRST}
    {METHOD}
    {LOSS}
    {TRAINING}

    Attributes
    ----------
    n_outputs_ : int
    {ATTRIBUTES}

    See Also
    --------
    MetaKANRegressor : Generated coefficients: fewer trainable numbers.
    KANClassifier : For classes.

    References
    ----------
    {PAPER}
    Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv 2404.19756.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_metakan import KANRegressor
    >>> X, y = make_friedman1(300, random_state=0)
    >>> model = KANRegressor(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    hidden_layer_sizes: int | Sequence[int] | str = "auto"
    _: KW_ONLY
    n_estimators: int = 4
    interactions: int | Sequence[Any] = 0
    monotonic_cst: Any = None
    sparsity: float = 0.0
    categorical_features: Any = "from_dtype"
    min_frequency: float | None = None
    loss: str = "squared_error"
    quantile: float | Sequence[float] = 0.5
    scale_target: bool = True

    _inputs_type, _target_type = TableInputs, NumberTarget
    _make_network = staticmethod(build_network)
    predict, predict_interval, score = predict, predict_interval, score
    _defaults = Defaults(
        learning_rate=0.02,
        weight_decay=0.03,
        betas=(0.9, 0.95),
        steps=6000,
        batch=(32, 256),
        large=Defaults(
            (64, 64, 64), 0.01, None, 0.01, betas=(0.9, 0.95), steps=4000, passes=(40, 200)
        ),
    )


@document
@dataclass(eq=False, repr=False)
class MetaKANRegressor(MultiOutputMixin, RegressorMixin, KANEstimator):
    """Regression with a KAN whose edges a meta-learner generates from prompts.

    ``y_o = sum_i phi_oi(x_i)`` in every layer; the coefficients of each phi come from a small
    meta-learner, ``w_oi = a_oi M(z_oi)``, so that an edge costs a prompt z_oi of p numbers
    (and a factor a_oi with edge_scale) in place of C coefficients.

    Parameters
    ----------
    {TUNE_FIRST}
    {METHOD}
    {LOSS}
    {META}
    {TRAINING}

    Attributes
    ----------
    n_outputs_ : int
    {ATTRIBUTES}

    See Also
    --------
    KANRegressor : Every edge with its own coefficients.
    MetaKANClassifier : For classes.

    References
    ----------
    {PAPER}
    Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv 2404.19756.

    Examples
    --------
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_metakan import MetaKANRegressor
    >>> X, y = make_friedman1(300, random_state=0)
    >>> model = MetaKANRegressor(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    hidden_layer_sizes: int | Sequence[int] | str = "auto"
    _: KW_ONLY
    n_estimators: int = 4
    interactions: int | Sequence[Any] = 0
    monotonic_cst: Any = None
    sparsity: float = 0.0
    categorical_features: Any = "from_dtype"
    min_frequency: float | None = None
    loss: str = "squared_error"
    quantile: float | Sequence[float] = 0.5
    scale_target: bool = True
    prompt_dim: int = 3
    meta_hidden_dim: int = 0
    meta_activation: str = "sin"
    edge_scale: bool = False
    n_meta_learners: int | str = "layer"
    prompt_learning_rate: float | None = None
    meta_learning_rate: float | None = None

    _inputs_type, _target_type = TableInputs, NumberTarget
    _make_network = staticmethod(build_network)
    predict, predict_interval, score = predict, predict_interval, score
    _defaults = Defaults(
        learning_rate=0.01,
        prompt_learning_rate=0.1,
        weight_decay=0.03,
        betas=(0.9, 0.95),
        steps=6000,
        batch=(32, 256),
        large=Defaults(
            (64, 64, 64), 0.01, 0.1, 0.001, betas=(0.9, 0.95), steps=4000, passes=(40, 200)
        ),
    )
