"""KANs for classification of tables, and the methods of all classifiers."""

from __future__ import annotations  # help() shows types as they are written here

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if

from sklearn_metakan.estimators.estimator import KANEstimator
from sklearn_metakan.estimators.inputs.checks import is_stochastic
from sklearn_metakan.estimators.inputs.table import TableInputs
from sklearn_metakan.estimators.parameters import document
from sklearn_metakan.estimators.targets.labels import LabelTarget
from sklearn_metakan.estimators.targets.multilabel import MultilabelTarget
from sklearn_metakan.nn import build_network
from sklearn_metakan.training import Defaults


def predict_proba(self: KANEstimator, X: ArrayLike) -> NDArray[Any]:
    """Probabilities of the classes, shape (n_samples, n_classes), order of ``classes_``.

    Of several labels at once, that a row has each of them, (n_samples, n_labels).
    At least the smallest normal number, so that their logarithms are finite.
    """
    fitted, _, logits = self._outputs(X)
    return fitted.target_(logits).numpy()


def predict_log_proba(self: KANEstimator, X: ArrayLike) -> NDArray[Any]:
    """Logarithms of the probabilities."""
    return np.log(predict_proba(self, X))


def decision_function(self: KANEstimator, X: ArrayLike) -> NDArray[Any]:
    """Logits.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    ndarray of shape (n_samples,) for two classes: log odds of ``classes_[1]``; else
    (n_samples, n_classes), or of several labels the log odds of each
    """
    fitted, _, outputs = self._outputs(X)
    outputs = fitted.target_.logits(outputs).numpy()
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def tags_of_classifiers(self: KANEstimator) -> Tags:
    """scikit-learn's tags: what the mixin says, and several labels at once."""
    tags = ClassifierMixin.__sklearn_tags__(self)
    tags.classifier_tags.multi_label = True
    return tags


@property  # type: ignore[misc]
def label_names(self: KANEstimator) -> list[Any]:
    """Of several labels at once: names of the columns of y, or numbers from 0 on."""
    target = vars(self).get("target_")
    if not isinstance(target, MultilabelTarget):
        raise AttributeError(f"{type(self).__name__} was not fitted to several labels.")
    return target.names


@available_if(is_stochastic)
@_fit_context(prefer_skip_nested_validation=True)
def partial_fit(
    self: KANEstimator,
    X: ArrayLike,
    y: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> KANEstimator:
    """One pass over these rows, with a constant learning rate; the method of classifiers.

    The first call fixes classes, scaling and knots, and which columns vary; give it rows typical
    of all. Pickles hold no optimiser: a loaded copy goes on with a fresh one. ``class_weight``
    must not be "balanced", which these rows alone cannot tell.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or, for several labels at once, (n_samples, n_labels)
    classes : array-like of shape (n_classes,), optional
        All classes that will come; the first call needs it unless y holds them all.
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    self

    Raises
    ------
    ValueError
        For invalid parameters or data; the estimator then stays as it was.
    """
    if self.class_weight == "balanced":
        raise ValueError(
            "class_weight='balanced' is not supported by partial_fit, which does not know how "
            "frequent the classes will be. Pass a dict of their weights, such as "
            "dict(zip(classes, compute_class_weight('balanced', classes=classes, y=y))), of "
            "all of y or a sample of it."
        )
    return self._partial_fit(X, y, sample_weight, classes=classes)


@document
@dataclass(eq=False, repr=False)
class KANClassifier(ClassifierMixin, KANEstimator):
    """Classification with a Kolmogorov-Arnold network.

    ``y_o = sum_i phi_oi(x_i)`` in every layer; each phi is a sum of basis functions whose
    coefficients are trained: of silu and splines, C = grid_size + degree + 1.

    Parameters
    ----------
    {TUNE_FIRST}
    {METHOD}
    {CLASS_WEIGHT}
    {TRAINING}

    Attributes
    ----------
    {CLASSES}
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

    hidden_layer_sizes: int | Sequence[int] | str = "auto"
    _: KW_ONLY
    n_estimators: int = 4
    interactions: int | Sequence[Any] = 0
    monotonic_cst: Any = None
    sparsity: float = 0.0
    categorical_features: Any = "from_dtype"
    min_frequency: float | None = None
    class_weight: dict[Any, float] | str | None = None

    _inputs_type, _target_type = TableInputs, LabelTarget
    _make_network = staticmethod(build_network)
    _defaults = Defaults(learning_rate=0.02, weight_decay=0.1, steps=6000)
    predict_proba, predict_log_proba = predict_proba, predict_log_proba
    decision_function, partial_fit = decision_function, partial_fit
    label_names_, __sklearn_tags__ = label_names, tags_of_classifiers


@document
@dataclass(eq=False, repr=False)
class MetaKANClassifier(ClassifierMixin, KANEstimator):
    """Classification with a KAN whose edges a meta-learner generates from prompts.

    ``y_o = sum_i phi_oi(x_i)`` in every layer; the coefficients of each phi come from a small
    meta-learner, ``w_oi = a_oi M(z_oi)``, so that an edge costs a prompt z_oi of p numbers
    (and a factor a_oi with edge_scale) in place of C coefficients.

    Parameters
    ----------
    {TUNE_FIRST}
    {METHOD}
    {CLASS_WEIGHT}
    {META}
    {TRAINING}

    Attributes
    ----------
    {CLASSES}
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

    hidden_layer_sizes: int | Sequence[int] | str = "auto"
    _: KW_ONLY
    n_estimators: int = 4
    interactions: int | Sequence[Any] = 0
    monotonic_cst: Any = None
    sparsity: float = 0.0
    categorical_features: Any = "from_dtype"
    min_frequency: float | None = None
    class_weight: dict[Any, float] | str | None = None
    prompt_dim: int = 3
    meta_hidden_dim: int = 0
    meta_activation: str = "sin"
    edge_scale: bool = False
    n_meta_learners: int | str = "layer"
    prompt_learning_rate: float | None = None
    meta_learning_rate: float | None = None

    _inputs_type, _target_type = TableInputs, LabelTarget
    _make_network = staticmethod(build_network)
    _defaults = Defaults(
        learning_rate=0.01,
        prompt_learning_rate=0.1,
        weight_decay=0.1,
        steps=6000,
    )
    predict_proba, predict_log_proba = predict_proba, predict_log_proba
    decision_function, partial_fit = decision_function, partial_fit
    label_names_, __sklearn_tags__ = label_names, tags_of_classifiers
