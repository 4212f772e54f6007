"""KANs for classification."""

from math import inf
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn

from sklearn_metakan.estimators._docs import document
from sklearn_metakan.estimators._parameters import (
    CLASSIFIER_CONSTRAINTS,
    TABULAR_CONSTRAINTS,
)
from sklearn_metakan.estimators._tabular import TabularKAN
from sklearn_metakan.estimators._to_torch import Probabilities
from sklearn_metakan.estimators._validation import is_stochastic
from sklearn_metakan.training import META_CONSTRAINTS, store, weighted_accuracy


class _TabularClassifier(ClassifierMixin, TabularKAN):
    """The target's side of classification: one logit for two classes, else one each."""

    adamw_weight_decay = 0.1
    classes_: NDArray[Any]

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) for two classes: log odds of ``classes_[1]``; else
        (n_samples, n_classes)
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities of the classes, shape (n_samples, n_classes), order of ``classes_``.

        At least the smallest normal number, so that their logarithms are finite.
        """
        logits = self._outputs(X)
        if logits.shape[1] == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        return np.maximum(softmax(logits, axis=1), np.finfo(logits.dtype).tiny)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Logarithms of the probabilities."""
        return np.log(self.predict_proba(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row, shape (n_samples,)."""
        logits = self.decision_function(X)
        index = (logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(axis=1)
        return self.classes_[index]

    @property
    def _n_network_outputs(self) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _encode_target(self, y: NDArray[Any], reset: bool, classes: Any = None) -> NDArray[Any]:
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        declared = np.unique(y if classes is None else classes)
        if not reset and classes is not None and not np.array_equal(declared, self.classes_):
            raise ValueError(
                f"classes={declared.tolist()} differs from those of the first call, "
                f"{self.classes_.tolist()}."
            )
        if reset:
            self.classes_ = declared
            if len(self.classes_) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs at least 2 classes in y, got only one class: "
                    f"{declared.tolist()[0]!r}."
                )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds the class {unknown.tolist()[0]!r}, which is not among "
                f"{self.classes_.tolist()}, the classes of the first call. Name all of them in "
                "the first partial_fit(..., classes=...), or call fit with warm_start=False."
            )
        return np.searchsorted(self.classes_, y)

    def _row_weights(self, y: NDArray[Any], weight: NDArray[Any] | None) -> NDArray[Any] | None:
        if self.class_weight is None:
            return weight
        if isinstance(self.class_weight, dict):
            for label, factor in self.class_weight.items():
                if not (isinstance(factor, Real) and 0 <= float(factor) < inf):
                    raise ValueError(
                        "class_weight must hold finite numbers of at least 0, got "
                        f"{factor!r} for class {label!r}."
                    )
        by_class = compute_sample_weight(self.class_weight, self.classes_[y])
        return by_class if weight is None else by_class * weight

    def _stratify_by(self, y: NDArray[Any], held_out: int) -> NDArray[Any] | None:
        counts = np.bincount(y)
        enough = counts[counts > 0].min() >= 2 and held_out >= np.count_nonzero(counts)
        return y if enough else None

    def _scale_target(self, y: NDArray[Any]) -> NDArray[Any]:
        return y[:, None].astype(np.float64) if self._n_network_outputs == 1 else y

    def _make_criterion(self) -> nn.Module:
        if self._n_network_outputs == 1:
            return nn.BCEWithLogitsLoss(reduction="none")
        return nn.CrossEntropyLoss(reduction="none")

    def _score_outputs(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        if self._n_network_outputs == 1:
            return weighted_accuracy(target[:, 0], (outputs[:, 0] > 0).to(target), weight)
        return weighted_accuracy(target, outputs.argmax(1), weight)

    def _torch_head(self) -> nn.Module:
        return Probabilities()

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "_TabularClassifier":
        """One pass over these rows, with a constant learning rate.

        The first call fixes classes, scaling and knots; give it rows typical of all. Pickles
        hold no optimiser: a loaded copy goes on with a fresh one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,), optional
            All classes that will come; the first call needs it unless y holds them all.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        return self._partial_fit(X, y, sample_weight, classes=classes)


@document
class KANClassifier(_TabularClassifier):
    """Classification with a Kolmogorov-Arnold network.

    ``y_o = sum_i phi_oi(x_i)`` in every layer; each phi is a sum of basis functions whose
    coefficients are trained: of silu and splines, C = grid_size + degree + 1.

    Parameters
    ----------
    {TUNE_FIRST}
    {METHOD}
    class_weight : dict {label: weight}, "balanced" or None, default=None
        Factor on the rows of each class; "balanced" is inverse to their frequency.
    {TRAINING}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    {ATTRIBUTES}

    See Also
    --------
    MetaKANClassifier : Generated coefficients: fewer trainable numbers.
    KANRegressor : For numbers.

    References
    ----------
    {PAPER}
    Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv 2404.19756.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_metakan import KANClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = KANClassifier(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TABULAR_CONSTRAINTS,
        **CLASSIFIER_CONSTRAINTS,
    }

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (64,),
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
        class_weight: dict[Any, float] | str | None = None,
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
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        store(self, locals())


@document
class MetaKANClassifier(_TabularClassifier):
    """Classification with a KAN whose edges a meta-learner generates from prompts.

    ``y_o = sum_i phi_oi(x_i)`` in every layer; the coefficients of each phi come from a small
    meta-learner, ``w_oi = a_oi M(z_oi)``, so that an edge costs a prompt z_oi of p numbers
    (and a factor a_oi with edge_scale) in place of C coefficients.

    Parameters
    ----------
    {TUNE_FIRST}
    {METHOD}
    class_weight : dict {label: weight}, "balanced" or None, default=None
        Factor on the rows of each class; "balanced" is inverse to their frequency.
    {META}
    {TRAINING}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    {ATTRIBUTES}

    See Also
    --------
    KANClassifier : Every edge with its own coefficients.
    MetaKANRegressor : For numbers.

    References
    ----------
    {PAPER}
    Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, arXiv 2404.19756.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_metakan import MetaKANClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MetaKANClassifier(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **TABULAR_CONSTRAINTS,
        **CLASSIFIER_CONSTRAINTS,
        **META_CONSTRAINTS,
    }
    _is_meta = True
    adamw_learning_rate = 0.03

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (64,),
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
        class_weight: dict[Any, float] | str | None = None,
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
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        store(self, locals())
