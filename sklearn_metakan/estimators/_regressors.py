"""KANs for regression."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn

from sklearn_metakan.estimators._docs import document
from sklearn_metakan.estimators._parameters import (
    REGRESSOR_CONSTRAINTS,
    TABULAR_CONSTRAINTS,
)
from sklearn_metakan.estimators._rows import Rows
from sklearn_metakan.estimators._scaling import TargetScaler
from sklearn_metakan.estimators._tabular import TabularKAN
from sklearn_metakan.estimators._to_torch import TargetUnits
from sklearn_metakan.training import META_CONSTRAINTS, REGRESSION_LOSSES, store, weighted_r2

_TARGET_SCALING: dict[str, Literal["standard", "robust", "mean"]] = {
    "squared_error": "standard",
    "absolute_error": "robust",
    "huber": "robust",
    "quantile": "robust",
    "poisson": "mean",
}


class _TabularRegressor(MultiOutputMixin, RegressorMixin, TabularKAN):
    """The target's side of regression."""

    adamw_weight_decay = 0.03
    _link: Literal["identity", "log"]

    _target_checks: ClassVar[dict[str, Any]] = {"multi_output": True, "y_numeric": True}

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predictions in the target's units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The mean; the median for "absolute_error", the quantile for "quantile". In X's
            dtype; float64 where float32 could not tell the target's values apart, as with
            seconds since 1970.
        """
        outputs = self._outputs(X)
        if self._link == "log":
            outputs = np.exp(outputs)
        predicted = self.target_scaler_.inverse_transform(outputs)
        predicted = predicted.astype(np.float64 if self._predicts_wide else outputs.dtype)
        return predicted[:, 0] if self._target_is_1d else predicted

    @property
    def _predicts_wide(self) -> bool:
        return not self.target_scaler_.fits(np.dtype(np.float32))

    @property
    def _n_network_outputs(self) -> int:
        return self.n_outputs_

    def _encode_target(self, y: NDArray[Any], reset: bool, classes: Any = None) -> NDArray[Any]:
        link: Literal["identity", "log"] = "log" if self.loss == "poisson" else "identity"
        if not reset and link != self._link:
            raise ValueError(
                f"Training that goes on (warm_start, partial_fit) cannot change loss to "
                f"{self.loss!r}: only 'poisson' models log(y). Call fit with warm_start=False."
            )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        is_1d, n_outputs = y.ndim == 1, 1 if y.ndim == 1 else y.shape[1]
        y = y.reshape(len(y), n_outputs).astype(np.float64)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(
                f"loss='poisson' needs y >= 0, got a smallest value of {y.min():g}. Use "
                "loss='squared_error' for such targets."
            )
        if reset:
            self._target_is_1d, self.n_outputs_, self._link = is_1d, n_outputs, link
        elif n_outputs != self.n_outputs_:
            raise ValueError(
                f"y has {n_outputs} outputs, but the estimator was fitted with {self.n_outputs_}."
            )
        return y

    def _fixed_settings(self) -> dict[str, Any]:
        return super()._fixed_settings() | {"scale_target": self.scale_target}

    def _start_target(self, rows: Rows) -> None:
        kind = _TARGET_SCALING[self.loss] if self.scale_target else None
        self.target_scaler_ = TargetScaler(kind).fit(rows.y, rows.weight)

    def _scale_target(self, y: NDArray[Any]) -> NDArray[Any]:
        return self.target_scaler_.transform(y)

    def _make_criterion(self) -> nn.Module:
        return REGRESSION_LOSSES[self.loss](self.quantile)

    def _score_outputs(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        outputs = outputs.exp() if self._link == "log" else outputs
        return weighted_r2(target.double(), outputs.double(), weight)

    def _torch_head(self) -> nn.Module:
        return TargetUnits(self.target_scaler_, self._link == "log", self._target_is_1d)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags


@document
class KANRegressor(_TabularRegressor):
    """Regression with a Kolmogorov-Arnold network.

    ``y_o = sum_i phi_oi(x_i)`` in every layer; each phi is a sum of basis functions whose
    coefficients are trained: of silu and splines, C = grid_size + degree + 1.

    Parameters
    ----------
    {TUNE_FIRST}
    {METHOD}
    loss : {"squared_error", "absolute_error", "huber", "quantile", "poisson"}
        default="squared_error". "huber" is quadratic up to one unit of the scaled target;
        "poisson" models log(y) and needs y >= 0.
    quantile : float in (0, 1), default=0.5
        The level for loss="quantile".
    scale_target : bool, default=True
        Whether the target is scaled inside: to mean 0 and deviation 1; for
        "absolute_error", "huber" and "quantile" by median and quartiles, which outliers
        do not move; for "poisson", divided by its mean.
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

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TABULAR_CONSTRAINTS,
        **REGRESSOR_CONSTRAINTS,
    }

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (64,),
        *,
        grid_size: int = 5,
        learning_rate: float | str = "auto",
        max_iter: int | str = "auto",
        weight_decay: float | str = "auto",
        basis: str = "bspline",
        degree: int = 3,
        knots: str = "uniform",
        extrapolation: str = "linear",
        dropout: float = 0.0,
        scale_inputs: str | None = "auto",
        loss: str = "squared_error",
        quantile: float = 0.5,
        scale_target: bool = True,
        solver: str = "adamw",
        learning_rate_schedule: str = "onecycle",
        batch_size: int = 256,
        tol: float = 1e-4,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | str = "auto",
        warm_start: bool = False,
        device: str | torch.device = "auto",
        precision: str = "auto",
        working_memory: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: Sequence[Any] | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        store(self, locals())


@document
class MetaKANRegressor(_TabularRegressor):
    """Regression with a KAN whose edges a meta-learner generates from prompts.

    ``y_o = sum_i phi_oi(x_i)`` in every layer; the coefficients of each phi come from a small
    meta-learner, ``w_oi = a_oi M(z_oi)``, so that an edge costs a prompt z_oi of p numbers
    (and a factor a_oi with edge_scale) in place of C coefficients.

    Parameters
    ----------
    {TUNE_FIRST}
    {METHOD}
    loss : {"squared_error", "absolute_error", "huber", "quantile", "poisson"}
        default="squared_error". "huber" is quadratic up to one unit of the scaled target;
        "poisson" models log(y) and needs y >= 0.
    quantile : float in (0, 1), default=0.5
        The level for loss="quantile".
    scale_target : bool, default=True
        Whether the target is scaled inside: to mean 0 and deviation 1; for
        "absolute_error", "huber" and "quantile" by median and quartiles, which outliers
        do not move; for "poisson", divided by its mean.
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

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TABULAR_CONSTRAINTS,
        **REGRESSOR_CONSTRAINTS,
        **META_CONSTRAINTS,
    }
    _is_meta = True
    adamw_learning_rate = 0.03

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (64,),
        *,
        grid_size: int = 5,
        learning_rate: float | str = "auto",
        max_iter: int | str = "auto",
        weight_decay: float | str = "auto",
        basis: str = "bspline",
        degree: int = 3,
        knots: str = "uniform",
        extrapolation: str = "linear",
        dropout: float = 0.0,
        scale_inputs: str | None = "auto",
        loss: str = "squared_error",
        quantile: float = 0.5,
        scale_target: bool = True,
        prompt_dim: int = 1,
        meta_hidden_dim: int = 32,
        meta_activation: str = "sin",
        edge_scale: bool = True,
        n_meta_learners: int | str = "auto",
        prompt_learning_rate: float | None = None,
        meta_learning_rate: float | None = None,
        solver: str = "adamw",
        learning_rate_schedule: str = "onecycle",
        batch_size: int = 256,
        tol: float = 1e-4,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | str = "auto",
        warm_start: bool = False,
        device: str | torch.device = "auto",
        precision: str = "auto",
        working_memory: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        callbacks: Sequence[Any] | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        store(self, locals())
